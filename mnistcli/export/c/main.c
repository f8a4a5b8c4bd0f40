/*
 * Reads the digits in a PGM picture of 28 x 28 pixels (white on black) or in an IDX file of images,
 * as MNIST's unpacked, and prints the class and its probability, a line per image.
 *
 *     cc -O2 $stem.c ${stem}_main.c -lm -o $stem && ./$stem t10k-images-idx3-ubyte
 */
#include "$header"

#include <stdio.h>
#include <string.h>

/* A number in the header of a PGM file, after white space and comments; -1 if there is none. */
static int read_number(FILE *file)
{
    int number, c = fgetc(file);

    while (c == '#' || c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        if (c == '#')
            while (c != '\n' && c != EOF)
                c = fgetc(file);
        c = fgetc(file);
    }
    ungetc(c, file);
    return fscanf(file, "%5d", &number) == 1 ? number : -1;
}

/* Skips the header of an IDX or PGM file; returns how many images follow, -1 for other files. */
static long skip_header(FILE *file)
{
    static const unsigned char sides[8] = {0, 0, 0, 28, 0, 0, 0, 28};
    unsigned char start[16];

    if (fread(start, 1, 2, file) != 2)
        return -1;
    if (start[0] == 'P' && start[1] == '5') {
        int width = read_number(file), height = read_number(file), white = read_number(file);

        fgetc(file);
        return width == 28 && height == 28 && white == 255 ? 1 : -1;
    }
    if (fread(start + 2, 1, 14, file) != 14 || memcmp(start, "\0\0\10\3", 4) != 0 ||
        memcmp(start + 8, sides, 8) != 0 || start[4] > 127)
        return -1;
    return (long)start[4] << 24 | (long)start[5] << 16 | (long)start[6] << 8 | start[7];
}

int main(int argc, char **argv)
{
    static uint8_t image[28 * 28];
    float probabilities[$num_classes];
    FILE *file;
    long i, num_images;

    if (argc != 2) {
        fprintf(stderr, "Usage: %s FILE\n", argv[0]);
        return 2;
    }
    file = fopen(argv[1], "rb");
    if (!file) {
        perror(argv[1]);
        return 1;
    }
    num_images = skip_header(file);
    if (num_images < 0)
        fprintf(stderr, "%s is not a PGM (P5) or IDX file of 28 x 28 pixels.\n", argv[1]);
    for (i = 0; i < num_images; i++) {
        int best;

        if (fread(image, 1, sizeof image, file) != sizeof image) {
            fprintf(stderr, "%s ends after %ld of %ld images.\n", argv[1], i, num_images);
            break;
        }
        best = mnist_predict(image, probabilities);
        printf("%d %.4f\n", best, probabilities[best]);
    }
    fclose(file);
    return i == num_images ? 0 : 1;
}
