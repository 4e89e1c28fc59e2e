"""Files as they should not be: bytes changed anywhere, headers and trees that say anything, tables of every kind."""

import json
import struct

from hypothesis import strategies as st

# What stands for a number, a size or a place, at the borders of what types can hold.
SIZES = st.sampled_from([0, 1, 2, 3, 8, 24, 255, 1 << 20, 1 << 31, 1 << 32, (1 << 62) + 1, (1 << 63) - 1, 1 << 63])
WHOLE = st.integers(-2, 9) | SIZES | st.integers(-(1 << 70), 1 << 70)


@st.composite
def changed(draw, whole):
    """A file with bytes flipped, replaced, cut out, put in, doubled or swapped."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)) | st.integers(0, min(len(data) - 1, 40) if data else 0))
        length = draw(st.integers(0, 16) | st.integers(0, len(data)))
        match draw(st.sampled_from(["flip", "replace", "cut", "end", "insert", "double", "swap"])):
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "replace":
                data[place : place + 1] = draw(st.binary(max_size=9))
            case "cut":
                del data[place : place + length]
            case "end":
                del data[place:]
            case "insert":
                data[place:place] = draw(st.binary(max_size=16))
            case "double":
                data[place:place] = data[place : place + length]
            case "swap":
                other = draw(st.integers(0, len(data)))
                first, second = sorted((place, other))
                data[:] = data[second:] + data[first:second] + data[:first]
    return bytes(data)


ANYTHING = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def headed(draw):
    """A safetensors file whose header says anything, with some bytes behind it."""
    tensors = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F64", "F16", "BF16", "U8", "BOOL", "I64", "F8_E4M3", "F4", "X", 7]),
            "shape": st.lists(SIZES, max_size=3) | st.lists(st.just(1), min_size=60, max_size=70) | ANYTHING,
            "data_offsets": st.tuples(SIZES, SIZES) | ANYTHING,
        }
    )
    names = st.sampled_from(["0.weight", "0.bias", "a", "\0", "é" * 9, ""]) | st.text(max_size=8)
    header = draw(st.dictionaries(names, tensors | ANYTHING, max_size=3))
    if draw(st.booleans()):
        header["__metadata__"] = draw(
            st.dictionaries(
                st.sampled_from(["viva_tensor", "sha256", "checkpoint", "written", "format"]),
                st.sampled_from(["weights 1", "checkpoint 2", "", "{}", "0" * 64]) | st.text(max_size=8),
            )
            | ANYTHING
        )
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    length = draw(st.just(len(text)) | SIZES.filter(lambda size: size < 1 << 64))
    return struct.pack("<Q", length) + text + draw(st.binary(max_size=40))


@st.composite
def replanted(draw, tree):
    """A tree of JSON with some of its branches replaced by something else, or by one another."""
    copy = json.loads(json.dumps(tree))
    for _ in range(draw(st.integers(1, 3))):
        places = [place for place in branches(copy) if place]
        *path, last = draw(st.sampled_from(places))
        holder = copy
        for step in path:
            holder = holder[step]
        taken = draw(st.sampled_from(["anything", "elsewhere", "gone"]))
        if taken == "gone":
            del holder[last]
            if not branches(copy)[1:]:
                break
        elif taken == "anything":
            holder[last] = draw(ANYTHING)
        else:
            found = copy
            for step in draw(st.sampled_from(places)):
                found = found[step]
            holder[last] = json.loads(json.dumps(found))
    return copy


def branches(tree, place=()):
    """The places in a tree, as keys from its root."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place, *(deep for key, one in inner for deep in branches(one, (*place, key)))]


ODD = st.sampled_from(
    [
        *(
            "",
            " ",
            "1e400",
            "1e-400",
            "nan",
            "NA",
            "inf",
            "-inf",
            "0x10",
            "1_000",
            "1,5",
            "9" * 30,
            "9" * 400,
            "-0",
            "1e5",
        ),
        *(
            "ü",
            "日本",
            '"',
            '"a',
            '"a,b"',
            '"x""y"',
            '"a\nb"',
            "'",
            "\\",
            "#",
            "a\tb",
            "x" * 9_000,
            "None",
            "[1]",
            "1j",
            "007",
        ),
        *("0000-00-00", "9999-12-31", "2020-01-01T00:00:00+02:00", "12:30", "\0", "1\x002", "\ufeff", "\x1a", "\u2028"),
    ]
)
CELLS = [  # of one kind each
    st.integers(-99, 99).map(str),
    st.floats(-1e3, 1e3).map(str) | st.just(""),
    st.sampled_from(["a", "b", "c", ""]),
    st.sampled_from(["True", "False"]) | st.just("NA"),
    st.sampled_from(["2020-01-01", "2021-02-03 04:05:06", "1999-12-31"]),
    st.integers(-99, 99).map(str) | st.sampled_from(["a", "2020-01-01"]),
    ODD,
]
NAMES = st.sampled_from(["a", "", " ", "a.1", "Unnamed: 0", "1", "nan", '"q"', "ü", "\ufeffa", "a=b", "x\0", '"a,b"'])


@st.composite
def tables(draw):
    """A file that may be a table: its bytes, and the separator of its fields."""

    def rarely(one_in):
        return draw(st.integers(1, one_in)) == one_in

    separator = draw(st.sampled_from([",", ",", ",", "\t"]))
    columns = draw(st.lists(st.sampled_from(CELLS), min_size=1, max_size=5))
    lines = [[draw(NAMES) if rarely(12) else f"c{i}" for i in range(len(columns))]]
    for _ in range(draw(st.integers(0, 30))):
        line = [draw(ODD if rarely(60) else cells) for cells in columns]
        if rarely(100):  # ragged
            line = draw(st.sampled_from([line[:-1], [*line, "1"], [*line, ""], []]))
        lines.append(line)
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    text = end.join((";" if rarely(900) else separator).join(line) for line in lines)
    text += draw(st.sampled_from(["", end, end * 2]))
    odd = draw(st.sampled_from(["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252"])) if rarely(12) else "utf-8"
    data = text.encode("utf-8-sig" if rarely(8) else odd, "replace")
    return (draw(changed(data)) if rarely(8) else data), separator
