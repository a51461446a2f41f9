#!/bin/bash
# The paper's evaluation, from committed weights and the folder that NERF_LIPSYNC_DATA names. Every step goes on where an
# interrupted run stopped; finished rows are not computed again. Arguments go to `nerf-lipsync evaluate table`.
#   EVALUATE_WORK   where everything is kept (runs/evaluate)
#   EVALUATE_TRAIN  training clips that the controls are fitted on (505: all)
set -euo pipefail
cd "$(dirname "$0")/.."

data=${NERF_LIPSYNC_DATA:?"name the folder of recorded data: export NERF_LIPSYNC_DATA=/path (see docs/evaluation.md)"}
work=${EVALUATE_WORK:-runs/evaluate}
train=${EVALUATE_TRAIN:-505}
export NERF_LIPSYNC_FACE_LANDMARKER=${NERF_LIPSYNC_FACE_LANDMARKER:-$data/weights/face_landmarker.task}
run=(.venv/bin/nerf-lipsync)

"${run[@]}" prepare grid "$data/grid_s1/val" --out "$work/grid/val" --pictures
"${run[@]}" prepare grid "$data/grid_s1/train" --out "$work/grid/train" --sample "$train"
"${run[@]}" prepare video "$data/grid_others" --out "$work/others"

# An avatar of GRID's speaker from seven training clips; its pictures are held against clips it never saw.
if [ ! -f "$work/s1_avatar/avatar.json" ]; then
    mkdir -p "$work/s1"
    for clip in $(find "$data/grid_s1/train" -name '*.mp4' | sort | awk 'NR % 84 == 1'); do
        ln -sf "$(realpath "$clip")" "$work/s1/"
    done
    "${run[@]}" create "$work/s1" --out "$work/s1_avatar" --preset adapt \
        --consent-person "GRID speaker s1" --consent-by "GRID audiovisual sentence corpus" \
        --consent-date 2006-11-01 --consent-statement "Published under CC BY 4.0"
fi

"${run[@]}" evaluate table --grid "$work/grid" --work "$work/rows" --others "$work/others" \
    --speech "$data/librispeech" --capture "$data/capture" --ict "$data/ict_facekit/ict_facekit.npz" \
    --avatar "$work/s1_avatar" --made-from "$work/s1_avatar.work/clips" \
    --identity "$data/weights/mobilefacenet/MobileFaceNet.onnx" \
    --json "$work/table1.json" --markdown "$work/table1.md" "$@"
