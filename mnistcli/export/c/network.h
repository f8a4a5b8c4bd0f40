/*
 * Reads a handwritten digit. Made by `mnist export`.
 *
$facts
 */
#ifndef MNIST_NETWORK_H
#define MNIST_NETWORK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Returns the most probable class of an image, 0 to $last_class, and stores the probabilities of all.
 *
 * The image is 28 rows of 28 pixels from 0 (background) to 255 (ink), centered like MNIST's. Static
 * memory is used: only one call at a time.
 */
int mnist_predict(const uint8_t image[28 * 28], float probabilities[$num_classes]);

#ifdef __cplusplus
}
#endif

#endif
