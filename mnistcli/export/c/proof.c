/* Writes the probabilities of every image on stdin to stdout, as this machine's floats. */
#include "$header"

#include <stdio.h>

int main(void)
{
    static uint8_t image[28 * 28];
    float probabilities[$num_classes];

    while (fread(image, 1, sizeof image, stdin) == sizeof image) {
        mnist_predict(image, probabilities);
        fwrite(probabilities, sizeof probabilities[0], $num_classes, stdout);
    }
    return 0;
}
