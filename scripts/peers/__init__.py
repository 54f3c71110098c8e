"""Our builds against ONNX Runtime and OpenVINO, on the same network in one run: what `scripts/bench_peers` is made of.

network (scripts.models) -> calibration (work_folder.py) -> our artifacts (ours.py), QDQ ONNX (quantized_onnx.py) -> peers (run_*.py)
        -> right answers? (compare_builds.py) -> times in turns (scripts/turns.py) -> rows (rows.py) -> a table (show.py), JSON
"""
