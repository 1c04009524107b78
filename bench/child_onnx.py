"""ONNX Runtime as a contender:  child_onnx.py MODEL.onnx INPUTS.safetensors N THREADS"""
import os
import sys

import numpy as np
import onnxruntime

import child
import safetensors_np


def main():
    model, inputs, n, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if "--avx2" in sys.argv:
        raise SystemExit("ONNX Runtime has no option to limit its instruction set")
    tensors = safetensors_np.load(inputs)[0]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    given = {"x": "c_in_x", "c_noise": "c_noise", "labels": "class_labels", "augment": "augment_labels"}
    feed = {i.name: tensors[given[i.name]][:n].astype(np.float32) for i in session.get_inputs()}
    child.serve(f"ONNX Runtime {onnxruntime.__version__}", lambda: session.run(None, feed)[0],
                lambda path, F: safetensors_np.save(path, {"F_x": F}))


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    main()
