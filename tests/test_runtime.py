"A process whose very first inferences come from many threads at once: OpenVINO's bindings, left to themselves, sometimes never return."
import subprocess, sys
import onnx
from onnx import TensorProto, helper

CODE = """
import sys, threading, numpy as np
sys.setswitchinterval(1e-6)
from petlost.runtime import Network
network, start, answers = Network(sys.argv[1]), threading.Barrier(16), []
def ask(i):
    image = np.full((3, 8, 8), i, np.float32)
    start.wait()
    answers.append((network(image)[0] == i).all())
threads = [threading.Thread(target=ask, args=(i,), daemon=True) for i in range(16)]
for t in threads: t.start()
for t in threads: t.join(20)
sys.exit(0 if len(answers) == 16 and all(answers) else 1)
"""

def test_first_calls_from_many_threads(tmp_path):
    image, mean = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in [('image', ['n', 3, 8, 8]), ('mean', ['n', 3])]]
    node = helper.make_node('ReduceMean', ['image'], ['mean'], axes=[2, 3], keepdims=0)
    graph = helper.make_graph([node], 'mean', [image], [mean])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8), tmp_path / 'mean.onnx')
    for _ in range(12): subprocess.run([sys.executable, '-c', CODE, tmp_path / 'mean.onnx'], check=True, timeout=60)
