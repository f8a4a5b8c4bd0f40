/*
 * $title
 *
$facts
 *
 * Made by: $command
 */
#ifndef MNIST_NETWORK_H
#define MNIST_NETWORK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The class of an image, 0 to 9, and the probabilities of all ten classes.
 *
 * The image is 28 rows of 28 pixels from 0 (background) to 255 (ink), the ink centered like MNIST's.
 * Uses static memory: not for two threads at a time.
 */
int mnist_predict(const uint8_t image[28 * 28], float probabilities[10]);

#ifdef __cplusplus
}
#endif

#endif
