/* See $header. */
#include "$header"

#include <math.h>
#include <stddef.h>

enum { IMAGE_PX = 28, INPUT_PX = $input_px, NUM_CLASSES = $num_classes, NUM_LAYERS = $num_layers };

$types

/*
 * A convolution or linear layer, and what follows it. Maps are in the order row, column, channel.
 * A linear layer is a convolution of one position. In one after average pooling, the weights of the
 * first tap repeat.
 */
struct layer {
    const weight_type *weights; /* [kernel * kernel][in_channels][channels]; depthwise: [..][1][..] */
$layer_fields
    value_type *out;
    int in_px, px, in_channels, channels;
    uint8_t kernel, padding, pool, replicate, depthwise, repeated$byte_fields;
};

$constants

$buffers

static const struct layer layers[NUM_LAYERS] = {
$layers
};

static int clamp(int value, int highest)
{
    return value < 0 ? 0 : value > highest ? highest : value;
}

/* The sums of products under the kernel at one position, for every output channel. */
static void accumulate(const struct layer *layer, const value_type *in, int top, int left)
{
    const int channels = layer->channels, in_channels = layer->in_channels;
    const weight_type *restrict weights = layer->weights;
    sum_type *restrict sum = sums;
    int tap, i, o;

    for (o = 0; o < channels; o++)
        sum[o] = 0;
    for (tap = 0; tap < layer->kernel * layer->kernel; tap++) {
        const int last = layer->in_px - 1;
        int row = top + tap / layer->kernel - layer->padding;
        int column = left + tap % layer->kernel - layer->padding;
        const value_type *pixel = NULL; /* in the padding */

        if (layer->replicate) {
            row = clamp(row, last);
            column = clamp(column, last);
        }
        if (row == clamp(row, last) && column == clamp(column, last))
            pixel = in + (row * layer->in_px + column) * in_channels;
        if (layer->depthwise) {
            for (o = 0; o < channels; o++)
                sum[o] += (sum_type)weights[o] * (pixel ? pixel[o] : $padding_value);
            weights += channels;
            continue;
        }
        if (layer->repeated)
            weights = layer->weights;
        for (i = 0; i < in_channels; i++) {
            const value_type value = pixel ? pixel[i] : $padding_value;

            for (o = 0; o < channels; o++)
                sum[o] += (sum_type)weights[o] * value;
            weights += channels;
        }
    }
}

$activate

/* An output may replace the input: a position is stored after its sums, and not read again. */
static void run(const struct layer *layer, const value_type *in)
{
    value_type *out = layer->out;
    int row, column, window, o;

    for (row = 0; row < layer->px; row++) {
        for (column = 0; column < layer->px; column++) {
            for (window = 0; window < layer->pool * layer->pool; window++) {
                accumulate(layer, in, row * layer->pool + window / layer->pool,
                           column * layer->pool + window % layer->pool);
                for (o = 0; o < layer->channels; o++)
                    if (window == 0 || sums[o] > largest[o])
                        largest[o] = sums[o];
            }
            for (o = 0; o < layer->channels; o++)
                *out++ = activate(layer, o, largest[o]);
        }
    }
}

$prepare
/* From logits to probabilities; returns the most probable class. */
static int softmax(float values[NUM_CLASSES])
{
    float total = 0.0f, highest;
    int k, best = 0;

    for (k = 1; k < NUM_CLASSES; k++)
        if (values[k] > values[best])
            best = k;
    highest = values[best];
    for (k = 0; k < NUM_CLASSES; k++) {
        values[k] = expf(values[k] - highest);
        total += values[k];
    }
    for (k = 0; k < NUM_CLASSES; k++)
        values[k] /= total;
    return best;
}

int mnist_predict(const uint8_t image[IMAGE_PX * IMAGE_PX], float probabilities[NUM_CLASSES])
{
    const struct layer *layer;
    const value_type *in;
    int k;

    in = $input;
    for (layer = layers; layer < layers + NUM_LAYERS - 1; layer++) {
        run(layer, in);
        in = layer->out;
    }
    accumulate(layer, in, 0, 0);
    for (k = 0; k < NUM_CLASSES; k++)
        probabilities[k] = (float)sums[k] * logit_scale[k] + logit_shift[k];
    return softmax(probabilities);
}
