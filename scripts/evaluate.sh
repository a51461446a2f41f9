#!/bin/bash
# The paper's evaluation, from committed weights and the folder that NERF_LIPSYNC_DATA names. Every step goes on where an
# interrupted run stopped; finished rows are not computed again. Arguments go to `nerf-lipsync evaluate table`.
#   EVALUATE_QUICK    1: every step at its smallest size, to see that all of it works; the figures say little
#   EVALUATE_WORK     where everything is kept (runs/evaluate; runs/evaluate-quick)
#   EVALUATE_TRAIN    training clips that the controls are fitted on (505: all)
#   EVALUATE_VAL      held-out clips (42: all)
#   EVALUATE_DECODER  training steps of the 2-D decoder (1500); 0: its rows are left out
# Each step's wall seconds, processor seconds (children counted in) and the load at its end: $EVALUATE_WORK/steps.tsv.
set -euo pipefail
cd "$(dirname "$0")/.."

data=${NERF_LIPSYNC_DATA:?"name the folder of recorded data: export NERF_LIPSYNC_DATA=/path (see docs/evaluation.md)"}
if [ "${EVALUATE_QUICK:-0}" = 1 ]; then
    sizes=(runs/evaluate-quick 8 3 20)
    adapting=(--minutes 0.5)
    small=(--picture-clips 2 --frames 10 --speech-clips 2 --draws 2 --teacher-draws 0)
else
    sizes=(runs/evaluate 505 42 1500)
    adapting=(--minutes 30)  # its steps decide, not the clock of a busy machine
    small=()
fi
work=${EVALUATE_WORK:-${sizes[0]}}
train=${EVALUATE_TRAIN:-${sizes[1]}}
val=${EVALUATE_VAL:-${sizes[2]}}
decoder_steps=${EVALUATE_DECODER:-${sizes[3]}}
export NERF_LIPSYNC_FACE_LANDMARKER=${NERF_LIPSYNC_FACE_LANDMARKER:-$data/weights/face_landmarker.task}
run=(.venv/bin/nerf-lipsync)
patient=(--no-flow --timeout-s 7200)  # the table reads no flow; a busy machine must not cost clips
capture=(--capture "$data/capture" --ict "$data/ict_facekit/ict_facekit.npz")
mkdir -p "$work"
trap 'for job in $(jobs -p); do kill -- "-$job" 2>/dev/null || true; done' EXIT

# step NAME COMMAND...: run it, keep beside what it made how long it took and the machine's load.
step() {
    local name=$1 took TIMEFORMAT='%0R %0U %0S'
    shift
    printf '== %s\n' "$name" >&2
    { time "$@" 2>&3; } 3>&2 2>"$work/.took-${name// /-}"
    read -ra took <"$work/.took-${name// /-}"
    printf '%s\t%s\t%s\t%s\n' "$name" "${took[0]}" "$((took[1] + took[2]))" "$(cut -d' ' -f1 /proc/loadavg)" >>"$work/steps.tsv"
}

step "prepare held-out clips" "${run[@]}" prepare grid "$data/grid_s1/val" --out "$work/grid/val" --sample "$val" --pictures "${patient[@]}"
step "prepare training clips" "${run[@]}" prepare grid "$data/grid_s1/train" --out "$work/grid/train" --sample "$train" "${patient[@]}"
step "prepare other speakers" "${run[@]}" prepare video "$data/grid_others" --out "$work/others" "${patient[@]}"

table=(evaluate table --grid "$work/grid" --work "$work/rows" --others "$work/others" --speech "$data/librispeech")
pictures=("${capture[@]}" --identity "$data/weights/mobilefacenet/MobileFaceNet.onnx")
of_s1=(--avatar "$work/s1_avatar" --made-from "$work/s1_avatar.work/clips")

# An avatar of GRID's speaker from seven training clips; its pictures are held against clips it never saw.
adapt_avatar() {
    [ ! -f "$work/s1_avatar/avatar.json" ] || return 0
    mkdir -p "$work/s1"
    for clip in $(find "$data/grid_s1/train" -name '*.mp4' | sort | awk 'NR % 84 == 1'); do
        ln -sf "$(realpath "$clip")" "$work/s1/"
    done
    step "adapt an avatar" "${run[@]}" create "$work/s1" --out "$work/s1_avatar" --preset adapt "${adapting[@]}" \
        --consent-person "GRID speaker s1" --consent-by "GRID audiovisual sentence corpus" \
        --consent-date 2006-11-01 --consent-statement "Published under CC BY 4.0"
}

# The ablation without a radiance field: a 2-D decoder of the capture's person.
train_decoder() {
    [ ! -f "$work/decoder2d.safetensors" ] || return 0
    step "train the 2-D decoder" "${run[@]}" train decoder2d "${capture[@]}" --steps "$decoder_steps" \
        --out "$work/decoder2d.safetensors" --runs "$work/decoder2d"
}

# Two cores: what needs one and waits for nothing goes beside what needs one. The table at the end takes over their rows.
set -m  # what runs beside has a process group: nothing of it is left when this ends, by Ctrl-C too
beside=()
if [ $# = 0 ]; then
    step "rows of motion" "${run[@]}" "${table[@]}" "${small[@]}" --json "$work/motion.json" &
    beside+=($!)
fi
adapt_avatar
((${#beside[@]} == 0)) || wait "${beside[@]}"

decoder=()
if [ "$decoder_steps" -gt 0 ]; then
    decoder=(--decoder "$work/decoder2d.safetensors")
    train_decoder &
    trained=$!
    if [ $# = 0 ]; then
        step "rows of pictures" "${run[@]}" "${table[@]}" "${pictures[@]}" "${of_s1[@]}" "${small[@]}" --json "$work/pictures.json"
    fi
    wait "$trained"
    if [ ! -f "$work/decoder2d.json" ]; then
        step "measure the 2-D decoder" "${run[@]}" evaluate decoder2d "${capture[@]}" "${decoder[@]}" \
            --json "$work/decoder2d.json" --sheets "$work/decoder2d-sheets"
    fi
fi

step "the table" "${run[@]}" "${table[@]}" "${pictures[@]}" "${of_s1[@]}" "${decoder[@]}" \
    --json "$work/table1.json" --markdown "$work/table1.md" "${small[@]}" "$@"
cat "$work/steps.tsv" >&2
