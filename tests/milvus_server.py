"""A real Milvus server for the tests: the binary of the PyPI package milvus 2.3.5, in an environment of its own beside ours (`make .venv/milvus/ready`), on ports and in a folder of its own."""
import os, shutil, signal, socket, subprocess, time
from pathlib import Path

HOME = Path(__file__).parents[1] / '.venv' / 'milvus'
WHY_NOT = 'no Milvus server here: `make .venv/milvus/ready` installs it'
CONFIGURE = '''
import milvus, pathlib, sys
folder, ports = sys.argv[1], dict(zip(('proxy_port', 'proxy_internal_port', 'etcd_port', 'root_coord_port', 'query_coord_port', 'query_node_port',
                                       'index_coord_port', 'index_node_port', 'data_coord_port', 'data_node_port'), sys.argv[2:]))
config = milvus.MilvusServerConfig(data_dir=folder, **ports)
config.set('common.session.ttl', 5)
config.resolve()
listing = pathlib.Path(folder) / 'configs' / 'milvus.yaml'
listing.write_text(listing.read_text().replace('etcd:\\n', f'etcd:\\n  config:\\n    path: {folder}/etcd.yaml\\n', 1))
'''

def free_ports(n):
    "Ports that nobody listens on; all are held until the last one is known."
    held = [socket.create_server(('127.0.0.1', 0)) for _ in range(n)]
    try: return [one.getsockname()[1] for one in held]
    finally:
        for one in held: one.close()

ETCD = '''
listen-client-urls: http://127.0.0.1:{0}
advertise-client-urls: http://127.0.0.1:{0}
listen-peer-urls: http://127.0.0.1:{1}
initial-advertise-peer-urls: http://127.0.0.1:{1}
initial-cluster: default=http://127.0.0.1:{1}
'''

class MilvusServer:
    "A server over a folder; started again it goes on with what is in it."
    def __init__(self, folder: Path):
        noted = folder / 'ports'
        ports = list(map(int, noted.read_text().split())) if noted.exists() else free_ports(13)
        self.folder, self.port, self.metrics, self.process = folder, ports[0], ports[-1], None
        if noted.exists(): return
        folder.mkdir(parents=True)
        (folder / 'bin').symlink_to(HOME / 'unpacked' / 'bin')
        (folder / 'etcd.yaml').write_text(ETCD.format(*ports[10:12]))
        subprocess.run([HOME / 'bin' / 'python', '-c', CONFIGURE, folder, *map(str, ports[:10])], check=True)
        noted.write_text(' '.join(map(str, ports)))

    def address(self, name): return f'milvus://127.0.0.1:{self.port}/{name}'

    def start(self):
        env = dict(os.environ, DEPLOY_MODE='STANDALONE', METRICS_PORT=str(self.metrics), MILVUS_RUN_DIR=str(self.folder / 'run'), LD_LIBRARY_PATH=str(self.folder / 'bin'))
        with (self.folder / 'out.log').open('ab') as out:
            self.process = subprocess.Popen([self.folder / 'bin' / 'milvus', 'run', 'standalone'], cwd=self.folder, env=env, stdout=out, stderr=out)
        return self

    def wait(self, seconds=120):
        "Until it takes connections."
        for _ in range(5 * seconds):
            if self.process.poll() is not None: raise RuntimeError(f'the Milvus server has ended; see {self.folder}/out.log')
            try:
                with socket.create_connection(('127.0.0.1', self.port), 1): return self
            except OSError: time.sleep(.2)
        raise RuntimeError(f'the Milvus server does not listen on {self.port}')

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None: self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
