#!/usr/bin/env bash
# Raw audio -> corpus -> a short WaveGAN training -> rendered clips. Usage: examples/demo.sh [FOLDER]
# Killed half-way, it goes on where it stopped; `rm -r demo` starts afresh.
set -euo pipefail

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }
show() { printf '\n\033[2m$ %s\033[0m\n' "$*" >&2; eval "$*"; }

raw=${1:-}
if [ -z "$raw" ]; then
    out=demo/drums raw=demo/raw choose="tonemill select 'path.startswith(\"kicks/\")' | "
    say "A drum machine plays a small corpus: kicks, snares, hats, claps and loops, with their truths in truth.tsv."
    [ -e $raw/truth.tsv ] || show tonemill drums $raw
else
    out=demo/$(basename "$raw") choose=""
fi

say "Raw audio becomes a corpus of half-second clips at 16 kHz."
show "tonemill scan '$raw' | ${choose}tonemill resample --rate 16000 --channels mono | tonemill slice --samples 8192 --short pad | tonemill shard '$out/corpus' --valid 0.2"
show tonemill inspect "'$out/corpus'"

say "Two minutes of WaveGAN, small enough for a CPU."
show tonemill train wavegan "'$out/corpus'" -o "'$out/run'" --minutes 2 --length 8192 --dim 16 --batch-size 16 \
    --upsampling nearest --learning-rate 0.0005 --listen-every 200

say "Sixteen seeds are rendered."
show "tonemill seeds 16 --seed 1 | tonemill render '$out/run' | tonemill write '$out/renders'"

say "Listen to $out/renders, and compare $out/run/clips/real/spectrograms.png with the last of $out/run/clips."
cat >&2 <<END
How far this goes: two minutes on a CPU are about a thousandth of what the WaveGAN paper trained for. Expect the
attack and the register of the sound (of the drum machine's kicks a thump that is too short), faint noise after it,
and little variety. For more, give the training line again with --minutes 30 (it goes on where it stopped), or on a
GPU start a new run with --dim 64 --batch-size 64 --length 16384 on clips of 16384 samples.
END
