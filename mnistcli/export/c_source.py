"""Networks as C99: one source file without dependencies, in float32 or in integers.

The files in `c/` are the text that a network is filled into.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from torch import Tensor

from mnistcli.data.arrays import IMAGE_PX
from mnistcli.data.normalization import Normalization
from mnistcli.export.layers import Layer
from mnistcli.export.quantize import IntegerLayer

_TEMPLATES = Path(__file__).parent / "c"
_LINE_CHARACTERS = 100
# Of `struct layer`, where a pointer and an int have 4 bytes.
_LAYER_BYTES = {"float": 40, "uint8_t": 56}
_BUFFERS = ("first", "second")
_NUMBER_BYTES = {"float": 4, "uint8_t": 1, "int8_t": 1, "int16_t": 2}

_FLOAT_TYPES = """typedef float value_type;
typedef float weight_type;
typedef float sum_type;"""
_FLOAT_FIELDS = """    const float *scale; /* [channels]; NULL: the weights contain it */
    const float *shift; /* [channels] */"""
_FLOAT_ACTIVATE = """static float activate(const struct layer *layer, int o, float sum)
{
    const float value = (layer->scale ? sum * layer->scale[o] : sum) + layer->shift[o];

    return layer->relu && value < 0.0f ? 0.0f : value;
}"""

_INTEGER_TYPES = """typedef uint8_t value_type;
typedef int8_t weight_type;
typedef int32_t sum_type;"""
_INTEGER_FIELDS = """    const int16_t *multiplier; /* [channels] */
    const int16_t *bias;       /* [channels]; NULL: none */
    int64_t offset;"""
_INTEGER_ACTIVATE = """/*
 * The integer that stands for an output, by Jacob et al. 2018 (arXiv:1712.05877): the scales of
 * weights, input and output are one multiplication and one shift. Below 0 is what ReLU removes.
 */
static uint8_t activate(const struct layer *layer, int o, int32_t sum)
{
    int64_t value = (int64_t)sum * layer->multiplier[o] + layer->offset;

    if (layer->bias)
        value += layer->bias[o] * ((int64_t)1 << layer->bias_shift);
    if (value <= 0)
        return 0;
    value >>= layer->shift;
    return value > 255 ? 255 : (uint8_t)value;
}"""

_RESIZE = """/*
 * A pixel of the image enlarged by bilinear interpolation, in units of 1 / (UNIT * UNIT): exact,
 * because its place is a whole number of units of 1 / UNIT pixels.
 */
enum { UNIT = 2 * INPUT_PX };

static int32_t resized(const uint8_t *image, int row, int column)
{
    const int y = clamp((2 * row + 1) * IMAGE_PX - INPUT_PX, (IMAGE_PX - 1) * UNIT);
    const int x = clamp((2 * column + 1) * IMAGE_PX - INPUT_PX, (IMAGE_PX - 1) * UNIT);
    const int below = y % UNIT, right = x % UNIT;
    const uint8_t *corner = image + y / UNIT * IMAGE_PX + x / UNIT;
    const int next = right ? 1 : 0, under = below ? IMAGE_PX : 0;

    return (int32_t)(UNIT - below) * ((UNIT - right) * corner[0] + right * corner[next]) +
           (int32_t)below * ((UNIT - right) * corner[under] + right * corner[under + next]);
}
"""
_PREPARE = """$resize
/* The network's input. */
static const value_type *prepare(const uint8_t *image)
{
    int i;

    for (i = 0; i < INPUT_PX * INPUT_PX; i++)
        first[i] = $value;
    return first;
}
"""


@dataclass(frozen=True)
class CSource:
    """The text of a source file and what it needs, in bytes.

    `flash_bytes` are its constants, without the code, where a pointer has 4 bytes; `ram_bytes` its
    static variables.
    """

    text: str
    flash_bytes: int
    ram_bytes: int


def float_source(layers: Sequence[Layer], normalization: Normalization, *, header: str) -> CSource:
    """The source file of a network in float32; `header` is the name of its header file."""
    constants = _Constants()
    rows = []
    for number, layer in enumerate(layers[:-1]):
        scale = "NULL"
        if layer.scale_O is not None:
            scale = constants.add("float", f"scale_{number}", layer.scale_O)
        fields = {
            "weights": constants.add_weights("float", layer, layer.weights_TIO),
            "scale": scale,
            "shift": constants.add("float", f"shift_{number}", layer.shift_O),
            "relu": str(int(layer.relu)),
        }
        rows.append(fields)
    last = layers[-1]
    rows.append({"weights": constants.add_weights("float", last, last.weights_TIO)})
    constants.add("float", "logit_scale", last.shift_O.new_ones(last.out_channels))
    constants.add("float", "logit_shift", last.shift_O)
    resizes = normalization.input_px != IMAGE_PX
    pixel = (
        "(float)resized(image, i / INPUT_PX, i % INPUT_PX) / (UNIT * UNIT)"
        if resizes
        else "(float)image[i]"
    )
    mean, std = _float(normalization.mean), _float(normalization.std)
    return _fill(
        layers,
        rows,
        constants,
        value_type="float",
        input_px=normalization.input_px,
        prepares=True,
        header=header,
        types=_FLOAT_TYPES,
        layer_fields=_FLOAT_FIELDS,
        byte_fields=", relu",
        padding_value="0.0f",
        activate=_FLOAT_ACTIVATE,
        prepare=_prepare(f"({pixel} / 255.0f - {mean}) / {std}", resizes=resizes),
    )


def integer_source(
    layers: Sequence[IntegerLayer], normalization: Normalization, *, header: str
) -> CSource:
    """The source file of a network in integers; `header` is the name of its header file."""
    constants = _Constants()
    rows = []
    for number, each in enumerate(layers[:-1]):
        bias = "NULL"
        if each.bias_O.any():
            bias = constants.add("int16_t", f"bias_{number}", each.bias_O)
        fields = {
            "weights": constants.add_weights("int8_t", each.layer, each.weights_TIO),
            "multiplier": constants.add("int16_t", f"multiplier_{number}", each.multiplier_O),
            "bias": bias,
            "offset": f"INT64_C({each.offset})",
            "zero": str(each.zero),
            "bias_shift": str(each.bias_shift),
            "shift": str(each.shift),
        }
        rows.append(fields)
    last = layers[-1]
    rows.append(
        {
            "weights": constants.add_weights("int8_t", last.layer, last.weights_TIO),
            "zero": str(last.zero),
        }
    )
    constants.add("float", "logit_scale", last.scale_O)
    constants.add("float", "logit_shift", last.shift_O)
    resizes = normalization.input_px != IMAGE_PX
    pixel = "(resized(image, i / INPUT_PX, i % INPUT_PX) + UNIT * UNIT / 2) / (UNIT * UNIT)"
    return _fill(
        [each.layer for each in layers],
        rows,
        constants,
        value_type="uint8_t",
        input_px=normalization.input_px,
        prepares=resizes,
        header=header,
        types=_INTEGER_TYPES,
        layer_fields=_INTEGER_FIELDS,
        byte_fields=", zero, bias_shift, shift",
        padding_value="layer->zero",
        activate=_INTEGER_ACTIVATE,
        prepare=_prepare(f"(uint8_t)({pixel})", resizes=True) if resizes else "",
    )


def fill_template(name: str, *, num_classes: int = 10, **values: str) -> str:
    """The text of a file in `c/` with its $names replaced."""
    template = Template((_TEMPLATES / name).read_text(encoding="utf-8"))
    return template.substitute(values, num_classes=num_classes, last_class=num_classes - 1)


def _prepare(value: str, *, resizes: bool) -> str:
    return Template(_PREPARE).substitute(resize=_RESIZE if resizes else "", value=value).lstrip()


def _fill(
    layers: Sequence[Layer],
    rows: Sequence[dict[str, str]],
    constants: "_Constants",
    *,
    value_type: str,
    input_px: int,
    prepares: bool,
    **texts: str,
) -> CSource:
    buffer_of_layer, sizes = _plan_buffers(layers, first_values=input_px**2 if prepares else 0)
    for layer, buffer, row in zip(layers, [*buffer_of_layer, None], rows, strict=True):
        row["out"] = "NULL" if buffer is None else _BUFFERS[buffer]
        row["in_px"], row["px"] = str(layer.in_px), str(layer.out_px)
        row["in_channels"], row["channels"] = str(layer.in_channels), str(layer.out_channels)
        row["kernel"], row["padding"] = str(layer.kernel_size), str(layer.padding)
        row["pool"] = str(layer.pool)
        for flag in ("replicate", "depthwise", "repeated"):
            row[flag] = str(int(getattr(layer, flag)))
    num_sums = max(layer.out_channels for layer in layers)
    buffers = [
        f"static value_type {name}[{size}];"
        for name, size in zip(_BUFFERS, sizes, strict=True)
        if size
    ]
    text = fill_template(
        "network.c",
        input_px=str(input_px),
        num_layers=str(len(layers)),
        num_classes=layers[-1].out_channels,
        constants=constants.text,
        buffers="\n".join([*buffers, f"static sum_type sums[{num_sums}], largest[{num_sums}];"]),
        layers="\n".join(map(_layer_row, rows)),
        input="prepare(image)" if prepares else "image",
        **texts,
    )
    return CSource(
        text,
        flash_bytes=constants.num_bytes + _LAYER_BYTES[value_type] * len(layers),
        ram_bytes=_NUMBER_BYTES[value_type] * sum(sizes) + 2 * 4 * num_sums,
    )


def _layer_row(fields: dict[str, str]) -> str:
    """The initializer of a `struct layer`; what is left out is 0."""
    words = [f".{key} = {value}" for key, value in fields.items() if value not in ("0", "NULL")]
    return "    {\n" + "\n".join(_lines(words, indent=8)) + "\n    },"


def _plan_buffers(layers: Sequence[Layer], *, first_values: int) -> tuple[list[int], list[int]]:
    """Which of two buffers holds the output of every layer but the last, and their sizes.

    Only the input of the layer at hand is still needed, so two are enough, and a layer that runs in
    place needs one. The first buffer holds the prepared input, of `first_values`, if there is one.
    """
    sizes, buffers = [first_values, 0], []
    current = 0 if first_values else None  # None: the caller's image, which is never written
    for layer in layers[:-1]:
        if current is None:
            current = 0
        elif not layer.runs_in_place:
            current = 1 - current
        sizes[current] = max(sizes[current], layer.out_px**2 * layer.out_channels)
        buffers.append(current)
    return buffers, sizes


@dataclass
class _Constants:
    """The constant arrays of a source file; weights that layers share are stored once."""

    arrays: list[str] = field(default_factory=list)
    num_bytes: int = 0
    names: dict[int, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "\n".join(self.arrays)

    def add_weights(self, type_name: str, layer: Layer, weights_TIO: Tensor) -> str:
        """The name of the array with a layer's weights."""
        key = id(layer.weight)
        if key not in self.names:
            self.names[key] = f"weights_{len(self.names)}"
            self.add(type_name, self.names[key], weights_TIO.flatten())
        return self.names[key]

    def add(self, type_name: str, name: str, values: Tensor) -> str:
        """Add an array and return its name."""
        numbers = map(_float if type_name == "float" else str, values.tolist())
        body = "\n".join(_lines(numbers))
        self.arrays.append(f"static const {type_name} {name}[{len(values)}] = {{\n{body}\n}};")
        self.num_bytes += len(values) * _NUMBER_BYTES[type_name]
        return name


def _lines(items: Iterable[str], *, indent: int = 4) -> Iterable[str]:
    """The items, each with a comma, in lines of at most 100 characters."""
    start = " " * (indent - 1)
    line = start
    for item in items:
        if len(line) + len(item) + 2 > _LINE_CHARACTERS:
            yield line
            line = start
        line += f" {item},"
    yield line


def _float(value: float) -> str:
    """A literal that reads back as the same float32."""
    digits = f"{value:.9g}"
    return f"{digits}f" if "." in digits or "e" in digits else f"{digits}.0f"
