"""An archive on a Ray cluster of two nodes: a worker killed, the run killed and begun again, a shard damaged; and the command on one machine."""
import json, os, signal, subprocess, sys, time
from pathlib import Path

import pytest

from petlost.photoset import read_photos
from petlost.search import index_photos
from petlost.store import Store
from running import PETLOST, petlost, said

# Ray starts a dozen Python processes; without bytecode files each of them would compile all it imports.
ENV = {k: v for k, v in os.environ.items() if k not in ('PYTHONDONTWRITEBYTECODE', 'RAY_ADDRESS')} | dict(RAY_USAGE_STATS_ENABLED='0', RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER='0')

NODES = '''
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1))
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
'''

RUN = '''
import json, sys
from petlost.archive import archive_photos
from petlost.photoset import read_photos
photos, catalogue, shards, size = sys.argv[1:]
done = archive_photos(read_photos(photos), catalogue, shards, 'transformer', size=int(size))
print(json.dumps(dict(added=done.added, embedded=done.embedded, finished=done.finished, damaged=done.damaged, problems=[str(p) for p in done.problems])))
'''

def descendants(root):
    "Process id -> (parent, command line) of the processes below one; one that has ended and is not yet reaped has no command line, and is left out."
    found = {}
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try: found[int(stat.parent.name)] = int(stat.read_text().rpartition(')')[2].split()[1]), (stat.parent / 'cmdline').read_text().replace('\0', ' ').strip()
        except (OSError, ValueError): pass
    found, below, todo = {pid: facts for pid, facts in found.items() if facts[1]}, {}, [root]
    while todo:
        children = {pid: facts for pid, facts in found.items() if facts[0] == todo[0]}
        below |= children
        todo = todo[1:] + list(children)
    return below

def busy(root):
    "The workers that embed a shard now, and the parent of each: its node."
    return {pid: parent for pid, (parent, command) in descendants(root).items() if command.startswith('ray::_embed')}

def listening(pids):
    "Addresses on which these processes listen, other than this machine's own."
    sockets = set()
    for pid in pids:
        for fd in Path(f'/proc/{pid}/fd').glob('*'):
            try: sockets.add(os.readlink(fd))
            except OSError: pass
    rows = [line.split() for table in ('tcp', 'tcp6') for line in Path(f'/proc/net/{table}').read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == '0A' and f'socket:[{row[9]}]' in sockets and not row[1].startswith(('0100007F', '0000000000000000FFFF00000100007F', '00000000000000000000000001000000'))}

def files(shards): return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in shards.glob('shard-*.parquet')}

def contents(folder):
    "All that a catalogue holds."
    with Store.open(folder) as store:
        vectors, names = store.vectors()
        photos = [store.photos(report) for report in store.reports()]
        masks = [store.mask(row.key, store._db.execute('SELECT segmenter FROM masks').fetchone()[0]) for rows in photos for row in rows]
        return store.reports(), names, vectors.tobytes(), photos, store.hashes()[0].tobytes(), [store.thumbnail(*name) for name in names], masks, store.repeats()

@pytest.fixture(scope='module')
def nodes():
    "A cluster of two nodes with a core each: its process, and its address in the environment."
    cluster = subprocess.Popen([sys.executable, '-c', NODES], env=ENV, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield cluster.pid, ENV | dict(RAY_ADDRESS=cluster.stdout.readline().strip())
    cluster.communicate(timeout=60)

@pytest.fixture(scope='module')
def archive(tmp_path_factory):
    "A folder for everything, and the list of 24 drawn photos, one of them broken off."
    from petlost.sample import sample_catalogue
    root = tmp_path_factory.mktemp('archive')
    listing = sample_catalogue(root / 'photos', n_pets=6, photos=4, seed=3)
    broken = read_photos(listing).photos[7].path
    broken.write_bytes(broken.read_bytes()[:400])
    return root, listing

def start(archive, env, size=2):
    root, listing = archive
    return subprocess.Popen([sys.executable, '-c', RUN, listing, root / 'c', root / f'shards-{size}', str(size)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def finish(run):
    out, err = run.communicate(timeout=240)
    assert not run.returncode, err[-3000:]
    return json.loads(out.splitlines()[-1])

def until(happened, run):
    "Wait for it, while the run goes on."
    while not (found := happened()):
        assert run.poll() is None, run.communicate()
        time.sleep(.02)
    return found

def test_killed_and_begun_again_it_equals_one_process(archive, nodes):
    (root, listing), (cluster, env) = archive, nodes
    shards, on = root / 'shards-2', set()
    run = start(archive, env)
    until(lambda: files(shards), run)
    killed = until(lambda: busy(cluster), run)
    os.kill(next(iter(killed)), signal.SIGKILL)
    until(lambda: on.update(busy(cluster).values()) or len(on) == 2 and len(files(shards)) > 4, run)
    run.kill(); run.communicate()
    time.sleep(1) # a shard may be on its way to the disk
    before = files(shards)
    done = finish(start(archive, env))
    assert 4 < done['finished'] == len(before) and done['finished'] + done['embedded'] == 12 and done['damaged'] == []
    assert {name: facts for name, facts in files(shards).items() if name in before} == before
    plain = index_photos(read_photos(listing), root / 'plain', 'transformer')
    assert done['problems'] == [str(p) for p in plain.problems] and len(plain.problems) == 1 and done['added'] == plain.added == 23
    assert contents(root / 'c') == contents(root / 'plain')

def test_a_damaged_shard_is_made_again(archive, nodes):
    root, _ = archive
    path = sorted((root / 'shards-2').glob('shard-*'))[3]
    before = files(root / 'shards-2')
    path.write_bytes(path.read_bytes()[:-1000])
    done = finish(start(archive, nodes[1]))
    assert (done['embedded'], done['finished'], done['added']) == (1, 11, 0)
    assert len(done['damaged']) == 1 and path.name in done['damaged'][0]
    now = files(root / 'shards-2')
    assert {name for name in now if now[name] != before[name]} == {path.name}

def test_a_shard_that_kills_processes_is_named(archive, nodes):
    cluster, env = nodes
    run, killed = start(archive, env, size=24), set()
    while run.poll() is None:
        for pid in busy(cluster).keys() - killed: os.kill(pid, signal.SIGKILL); killed.add(pid)
        time.sleep(.05)
    out, err = run.communicate()
    assert run.returncode and len(killed) == 3
    assert '1 of 1 shards could not be embedded' in err and 'the process died 3 times over its photos' in err

def test_the_command_on_one_machine(archive, tmp_path):
    _, listing = archive
    command = [PETLOST, 'archive', listing, '--to', tmp_path / 'c', '--model', 'colour-histogram']
    alone = {k: v for k, v in ENV.items() if not k.startswith('RAY_')}
    run, seen, elsewhere = subprocess.Popen(command, env=alone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True), {}, set()
    while run.poll() is None:
        seen |= (below := descendants(run.pid))
        elsewhere |= listening([run.pid, *below])
        time.sleep(.2)
    out, err = run.communicate()
    assert (run.returncode, out) == (0, f'23 photos added, 0 were there already, 1 skipped: {tmp_path}/c\n'), err
    assert any('raylet' in command for _, command in seen.values()) and not elsewhere
    time.sleep(1)
    assert not [pid for pid, (_, command) in seen.items() if Path(f'/proc/{pid}/cmdline').exists() and Path(f'/proc/{pid}/cmdline').read_text().replace('\0', ' ').strip() == command]
    again = petlost('archive', listing, '--to', tmp_path / 'c', '--model', 'colour-histogram', env=alone)
    assert again.stdout == f'0 photos added, 23 were there already, 1 skipped: {tmp_path}/c\n'
    assert said(again)[-1] == f'0 shards embedded, 1 had been before: {tmp_path}/c-shards'
    other = petlost('archive', listing, '--to', tmp_path / 'd', '--shards', tmp_path / 'c-shards', '--model', 'petlost-fast', env=alone)
    assert other.returncode == 1 and len(said(other)) == 1 and 'were made with model colour-histogram' in other.stderr
