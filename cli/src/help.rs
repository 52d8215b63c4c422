//! The long texts of the help, which are also the manual pages.

use fedpress::{PRESETS, SPARED, SpareRule};

use crate::exit::CODES;

/// What this is, for somebody who has never heard of it.
pub const ABOUT: &str = "\
Compress tensors for federated learning, and get them back.

In federated learning many devices train one model: they fetch its weights, train on their own \
data, and send back how the weights changed. Most of the cost is sending numbers over slow links. \
fedpress makes them smaller, often ten times, by sending each number with a few bits; which errors \
this brings, and how they vanish in the average over many devices, is under the user's control.

  fedpress encode model.safetensors -o model.fp      a model, to be used as it comes back
  fedpress inspect model.fp
  fedpress decode model.fp -o copy.safetensors
  fedpress diff model.safetensors copy.safetensors
  fedpress encode update.npz --spec uplink           an update, one of many that are averaged
  fedpress demo                                      try it without any file";

/// The chapters of the main manual page.
pub fn manual() -> String {
    format!("{HOW}\n\n{}\n\n{FILES}\n\n{SEEDS}\n\n{}", presets(), exit_codes())
}

/// What `encode` adds to its options.
pub fn encode() -> String {
    let (presets, spared, codes) = (presets(), spared(), exit_codes());
    format!("{HOW}\n\n{STAGES}\n\n{presets}\n\n{spared}\n\n{SEEDS}\n\n{FILES}\n\n{codes}")
}

/// What `decode` adds to its options.
pub const DECODE: &str = "\
Formats:
  safetensors and npz state every shape before the first value. A stream in a file is therefore \
read twice, its headers first; a stream from a pipe is copied to a temporary file first (in the \
folder that TMPDIR names; it takes as much room as the compressed stream).
  raw and npy hold one tensor and are written as it arrives, from a pipe in bounded memory, \
whatever its size. An npy file with a first dimension that is still open is possible in a file, not \
in a pipe.

What went into a pipe before an error was found cannot be taken back: look at the exit code. Files \
appear only when they are complete.

Examples:
  fedpress decode model.fp                            writes model.safetensors
  fedpress decode update.fp -o update.npz
  fedpress decode model.fp --tensor fc1.bias --raw -c | xxd
  curl -s URL | fedpress decode - --raw -T 2 > values.f32";

/// What `inspect` adds to its options.
pub const INSPECT: &str = "\
Of a stream, jumps over the payloads, so it is quick for any size and says nothing about their health: \
verify does. The total counts every byte of the file, headers included. One line per tensor, columns \
separated by blanks; a name with blanks or control characters is quoted.

Of a tensor file, reads the values: mean, deviation (the standard one) and kurtosis (3 for a Gaussian, \
more with outliers, which hadamard and rotation take away) are those of the finite ones; zeros, NaN and \
infinities are counted.

With several files, one that cannot be read does not keep the others from being shown. \
fedpress FILE alone is the same as fedpress inspect FILE.";

/// What `verify` adds to its options.
pub const VERIFY: &str = "\
Prints FILE: OK or FILE: FAILED with the reason, for each file; -q leaves out those that are OK. \
The exit code is 1 if any file failed for whatever reason, else 0.";

/// What `diff` adds to its options.
pub const DIFF: &str = "\
Either side can be a tensor file or a stream; tensors are matched by name.

Columns:
  differ      how many values are not the same number; NaN is the same as NaN
  nmse        normalized mean squared error: the squared distance between the two, over the squared \
length of A. 0 is equal, 0.01 is an error of a tenth of the values' size, 1 is as bad as sending \
zeros
  cosine      cosine of the angle between the two: 1 is the same direction
  max_error   largest difference of a single value
  signs       values above zero in one and below in the other
  zeros_lost  zeros of A that are none in B
  +-0         zeros of which one is -0, which counts as equal
  nonfinite   values that are NaN or infinite in one and not the same in the other; then nmse, cosine \
and max_error are no finite numbers, which is beyond every limit

The exit code is 1 if the two differ in structure (a tensor is missing on one side, or has another \
type or shape), or a tensor is beyond what --fail-above or --fail-below allow, and 0 otherwise, however far \
the values are apart:
  fedpress diff model.safetensors model.fp --fail-above nmse=0.01 --fail-below cosine=0.99
It is 4 if a tensor is of a type or stage that this program does not know; the others are compared. -q \
leaves the table out and prints only why it fails.";

/// What `bench` adds to its options.
pub const BENCH: &str = "\
Everything happens in memory. Speeds are gigabytes (10^9) of original tensor per second, best of \
the iterations, and as a multiple of plain memory copying measured in the same run. The nmse is the \
mean over the tensors that are sent lossily, weighted by their number of values (see diff for what \
it means).

A low-bit pipeline can have an nmse above 1 and still be useful: if it is unbiased, the errors of \
independent clients cancel, and the average of n clients has an nmse n times smaller.";

/// What `estimate` adds to its options.
pub const ESTIMATE: &str = "\
Encodes and decodes a part of the values by each preset: size is that of the whole file, nmse as bench \
prints it. What is meant for updates is unbiased: the errors of many clients cancel. A model that is \
used as it comes back wants careful: at four bits a value some keep what they do, and others do not.

  fedpress encode FILE --target-ratio 30     rates for each tensor by which the file is 30 times smaller";

/// What `sweep` adds to its options.
pub const SWEEP: &str = "\
Encodes and decodes by each pipeline, at each rate where its stages have one (auto, small, step, trellis). \
bits are of the whole stream, for each value; nmse as bench prints it. The picture has both axes \
logarithmic, and the bound that no unbiased code passes if values are Gaussian.

  fedpress sweep update.safetensors --svg update.svg
  fedpress sweep w.npy --spec 'rotation|trellis=2' --spec 'identity|step=2' --rates 0.5,1,2,4";

/// What `submodel` adds to its options.
pub const SUBMODEL: &str = "\
A layout file, as --print-layout prints it:
  [groups]                          # units that can be dropped
  conv2 = 64
  fc1 = 512
  [[parameters]]
  name = \"fc1.weight\"
  axes = [\"fc1\", \"conv2*49\"]        # flattened 7 x 7 maps, channel first; last: \"49*conv2\"
  inputs = [1]

  fedpress submodel inspect model.safetensors --keep 0.75
  fedpress submodel pack model.safetensors -o small.safetensors --seed 3
  fedpress submodel merge model.safetensors small.safetensors -o next.safetensors --seed 3";

const HOW: &str = "\
How it works:
  Each tensor passes through up to four stages.
  A transform (hadamard, kashin, rotation) mixes the values of a block by a random rotation, so that no single \
one is much larger than the others and few bits describe all of them well. Decoding rotates back. \
hadamard is the quick one; kashin describes the values by a few more numbers than there are, so that \
the largest becomes smaller still: less error for the same bits per number, but more numbers, and \
more work; rotation mixes up to a million values with each other, which lm and trellis need.
  Subsampling sends only a random part of the rotated values; what is missing counts as zero, the \
rest is scaled up to make up for it.
  Quantizing (q) rounds every value to one of a few levels, 2^q of them. It rounds up or down at \
random, so that the average over many clients is right although each of them is wrong.
  Levels of lm lie where rotated values are most: a quarter of the error of q at 4 bits, a \
twentieth at 1. They round to the nearest; what makes the average right is that every client rotates \
its own way.
  trellis looks ahead: which levels a value may take depends on the values before it, and what it \
chooses is packed by how likely it is. Two thirds of the error of lm at 1 bit, half at 3 and 4, at any rate you \
like, 0.5 as well as 2.7.
  step sends values as they are, as multiples of one step, packed by how often which occurs: best where a few \
values are large and most are next to nothing, as in gradients and activations.
  zstd finally squeezes out repetition without changing anything.
  Integers, f64, small tensors and what is spared skip all but the last stage and come back bit by \
bit, and so does any group of a million values that takes no more room so, if a sample of it lets that be seen.";

const STAGES: &str = "\
Stages, in this order, each optional, joined by | (so put them in quotes):
  identity                     no transform
  hadamard[,block=4096]        random rotation, in blocks of 256 to 32768 values
  kashin[,lambda=1.25,...]     random rotation into lambda times as many values, 1 to 2
  rotation[,levels=3]          random rotation of up to a million values at once, in 2 or 3 passes
  subsample=S                  send the fraction S of the values
  q=Q[,nearest,block=4096]     Q bits per value, 1 to 16; nearest: no random rounding, which is \
more exact for one client and BIASED: in the average of many clients its errors add up instead of \
cancelling, so it is for what is sent once (features, a model), not for updates
  lm=Q                         Q bits per value, 1 to 8, for use behind rotation
  step=R[,biased]              R bits per value, 0.05 to 12, for values as they are (identity); \
biased: zeros stay zeros, the least error for one client. Of feature maps and fields, whose shape \
says which values stand side by side, each is coded in the light of those before it
  max-error=E                  no value is further than E from the original, as in max-error=0.001, \
for measurements and simulations; what floats cannot meet, NaN and infinity come back bit by bit
  trellis=R[,biased]           R bits per value, 0.1 to 12, for use behind rotation; biased: the \
least error for one client, but not right in the average of many
  shuffle                      order bytes by significance, for lossless pipelines
  zstd[=LEVEL]                 -7 to 22, default 1
  A or B                       two pipelines: every group of values takes the one of the smaller error
  none, lossless               nothing at all; the same as shuffle|zstd

Rules:
  --rule 'bn*=lossless' --rule 'fc*.weight=hadamard|q=2' --spec careful
  The first rule whose pattern matches the name of a tensor, or parts of it that follow each other, \
decides; --spec applies to the rest. Patterns know *, ? and [a-z]; parts end at a dot or a slash, so \
that bn* matches layer4.0.bn3.weight; after ^ a pattern matches whole names only.

What is asked and not done is said, in one line each: f64 under a lossy pipeline (--f64), rules \
without effect, tensors that are spared or that would be smaller without loss. -q silences it, \
--strict makes errors of it, --json has it under remarks. --dry-run says all of it and writes nothing.";

const FILES: &str = "\
Files and pipes:
  - means standard input or standard output. Reading standard input, the default output is standard \
output. Binary data never goes to a terminal unless -f insists.
  raw and npy are read and written as a stream, in bounded memory. npz input from a pipe is copied to \
a temporary file first, because its directory is at its end; so is a stream from a pipe that is decoded to safetensors or npz, \
whose headers need every shape first.
  A regular output file is atomic: it is written under a temporary name in the same folder, synced, \
and renamed, so it is there complete or not at all. Devices, named pipes and what symbolic links \
point to are written in place: they are not atomic, and hold a part after an error.
  Existing files are replaced only with -f, and keep their permissions. Inputs are never changed or \
removed; an output that is the input itself is refused.
  Ctrl-C and requests to terminate remove the temporary file, except under nohup. What a kill or a \
power failure leaves behind is called .fedpress-*.tmp.
  npy and npz arrays are read whatever their order of elements and bytes; one in Fortran order is in \
memory once. Arrays of ml_dtypes, which NumPy has no name for, are what --dtype says (bf16, f8_e4m3, \
f8_e5m2). An npz with arrays that no tensor can hold, such as text, is read with --skip-unsupported, \
without these.
  A folder is an input: its index, its only safetensors file, or all shards of one model, as Hugging Face \
lays models out. Tensors that the index does not list are said and left out; --unlisted takes them. decode writes shards and their \
index again, where the output is called .index.json (--shard-size).
  Tensors of a file with the same bytes and the same pipeline travel once, and come back under each of their \
names; in a pipe none is known to have been there before.
  With -T small tensors are coded several at a time, in memory for about a million values a thread.
  Files of torch (.pt) are pickles, programs that run when they are loaded, and are not read; nor are \
HDF5 and Keras files, ONNX, GGUF and zarr; the message says how to convert them.";

const SEEDS: &str = "\
Seeds:
  --seed is shared: it is stored in the stream, and with --round and --client-id it decides rotation \
and subsampling, so that what one client leaves out another one sends.
  The private seed decides which way each value is rounded. It must differ between clients and \
rounds, so it is drawn from the operating system; with the same one everywhere the errors would add \
up instead of cancelling. --private-seed repeats a run bit by bit; -v and --json tell which one \
was used.";

/// The table of what is spared.
fn spared() -> String {
    let line = |rule: &SpareRule| {
        let pattern = if rule.pattern.is_empty() { "(one dimension)" } else { rule.pattern };
        format!("  {pattern:<16} {}", rule.what)
    };
    let lines: Vec<_> = SPARED.iter().map(line).collect();
    format!(
        "Spared, so sent losslessly unless a rule names them or --spare nothing is given, by the last \
part of the name; vectors only where a file has several tensors:\n{}",
        lines.join("\n")
    )
}

fn presets() -> String {
    let lines: Vec<_> =
        PRESETS.iter().map(|p| format!("  {:<14} {:<42} {}", p.name, p.spec, p.purpose)).collect();
    format!("Presets, to be given wherever a pipeline is:\n{}", lines.join("\n"))
}

fn exit_codes() -> String {
    let lines: Vec<_> = CODES.iter().map(|(code, text)| format!("  {code:<4} {text}")).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}
