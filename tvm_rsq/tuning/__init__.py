"""Search for the fastest way to make each convolution kernel, on the machine itself.

    network -> tasks (task.py) -> search (search.py, cost_model.py) over library.conv2d_space -> runner (runner.py)
            -> records and decisions in a folder (work_dir.py) -> TunedLibrary (tuned_library.py) -> compile
"""
