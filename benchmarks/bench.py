"""Every benchmark, one after the other, and one table of where petlost stands: `make bench [PHOTOS=FOLDER] [COUNT=20000] [SOME=12] [AGAIN=1 | AGAIN='STEP ...'] [ONLY='STEP ...']`, or
`python benchmarks/bench.py [--photos FOLDER] [--count 20000] [--only STEP ...] [--again [STEP ...]] [--keep bench] [--to FILE.json]`.

A step is a benchmark that can be run by itself (`make bench-STEP`). What it says and its figures are kept; it is not run again, unless it is asked to, or its arguments or its own code, with what it imports of this
folder, have changed. A step that was stopped begins anew, but `rivals` keeps vectors and `index` and `engines` keep what they have built. A step that fails is named at the end, and the others run. The table says at which commit each was measured, and whether
the code of petlost has changed since. It goes to the screen and to the file that the docs show. About an hour on two idle cores with the defaults."""
import argparse, hashlib, json, os, platform, re, shlex, shutil, subprocess, sys, time
from dataclasses import dataclass
from pathlib import Path
from petlost.backbone import write_file
from petlost.where_we_stand import accuracy_table, job_table, read_standing, step_table

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[1]

@dataclass(frozen=True)
class Step:
    "One benchmark: its script, its arguments in the table, and what it needs beside the environment."
    args: str = ''
    beside: str = '' # a folder in .venv
    photos: bool = False # can it take real ones?
    keeps: str = '' # can it go on where it stopped? 'half': what it has left goes when it is done; 'always': it knows by itself what is still good
    out: bool = False   # does it write figures of its own?

STEPS = {
    'rivals': Step('', 'bench', photos=True, keeps='always', out=True),
    'data': Step('--hashes 50000'),
    'segment': Step('--count 12 --sam 1', photos=True),
    'embed': Step('bound evaluation --count 64', 'bench', photos=True),
    'index': Step('--count {count}', keeps='half'),
    'engines': Step('--count {half}', 'engines', keeps='half'),
    'mining': Step('--count {count}'),
    'serve': Step('bound plain --model petlost-fast', 'fastapi', photos=True),
} # in the order of the table

# ---- has it been done?

def sources(name: str) -> list[Path]:
    "A script, and what it imports of this folder and of the tests'."
    seen, left = [], [HERE / f'{name}.py']
    while left:
        path = left.pop()
        if path in seen: continue
        seen.append(path)
        for module in re.findall(r'^\s*(?:from|import) (\w+)', path.read_text(encoding='utf-8'), re.M):
            left += [p for folder in (HERE, ROOT / 'tests') if (p := folder / f'{module}.py').exists()]
    return sorted(seen)

def digest(paths: list[Path]) -> str: return hashlib.sha256(b''.join(p.read_bytes() for p in paths)).hexdigest()[:16]

def commit() -> str:
    "The commit that is checked out, with a + where something tracked has changed."
    git = lambda *args: subprocess.run(['git', *args], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return git('rev-parse', '--short=10', 'HEAD') + ('+' if git('status', '--porcelain', '--untracked-files=no', '--', 'petlost', 'benchmarks') else '')

def petlost_code() -> str: return digest(sorted((ROOT / 'petlost').glob('*.py')))

# ---- doing it

def command_of(name: str, args: str, photos: Path|None) -> str:
    "How anybody runs the step by itself; where the photos are is nobody's business."
    return f'make bench-{name}' + (' PHOTOS=FOLDER' if photos and STEPS[name].photos else '') + (f" ARGS='{args}'" if args else '')

def run(name: str, args: str, photos: Path|None, keep: Path) -> dict:
    "Run a step to its end, with its words on the screen and in a file; raises `RuntimeError` where it fails."
    step, figures, own = STEPS[name], keep / f'{name}.figures', keep / f'{name}.own'
    for file in (figures, own): file.unlink(missing_ok=True)
    words = [sys.executable, str(HERE / f'{name}.py'), *shlex.split(args)]
    if photos and step.photos: words += ['--photos', str(photos)]
    half = keep / f'{name}-{digest(sources(name))}-{args.replace(" ", "")}' # what a stopped run has left; of the same code and size
    if step.keeps: words += ['--keep', str(half if step.keeps == 'half' else keep / name)]
    if step.out: words += ['--out', str(own)]
    env = dict(os.environ, PETLOST_FIGURES=str(figures), PYTHONWARNINGS='ignore', PYTHONPATH=str(ROOT / '.venv' / step.beside) if step.beside else '')
    began, busy = time.time(), os.getloadavg()[0]
    with subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace') as process, open(keep / f'{name}.txt', 'w', encoding='utf-8') as said:
        for line in process.stdout: print(line, end='', flush=True); said.write(line)
    if process.returncode: raise RuntimeError(f'{name} ended with {process.returncode}: see {keep / name}.txt')
    found = json.loads(own.read_text()) if step.out else dict(jobs=[json.loads(line) for line in figures.read_text(encoding='utf-8').splitlines()])
    shutil.rmtree(half, ignore_errors=True)
    return found | dict(seconds=round(time.time() - began), busy=[round(busy, 1), round(os.getloadavg()[0], 1)])

def machine() -> str:
    "What it ran on, in words."
    lines = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').exists() else []
    model = next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), platform.machine())
    return f'{len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()} cores, {model}, Python {platform.python_version()}'

def steps_done(names: list[str], again: list[str], photos: Path|None, args: dict[str, str], keep: Path) -> tuple[dict[str, dict], list[str]]: # step -> what it found; what failed
    "Run what has not been done, and read the rest."
    done, failed = {}, []
    for name in STEPS:
        file, key = keep / f'{name}.json', dict(command=command_of(name, args[name], photos), photos=str(photos) if photos and STEPS[name].photos else '', code=digest(sources(name)))
        kept = json.loads(file.read_text()) if file.exists() else None
        if kept and kept['key'] == key and name not in again: print(f'{name}: done before, at {kept["commit"]}' + ('' if kept['petlost'] == petlost_code() else f'; petlost has changed since: AGAIN={name} measures anew'), flush=True)
        elif name not in names: kept = None
        else:
            print(f'--- {key["command"]}', flush=True)
            try: kept = dict(key=key, commit=commit(), petlost=petlost_code(), machine=machine()) | run(name, args[name], photos, keep)
            except RuntimeError as e: print(e, file=sys.stderr, flush=True); failed.append(name); continue
            write_file(file, json.dumps(kept).encode())
        if kept: done[name] = dict(command=key['command'], **{k: v for k, v in kept.items() if k not in ('key', 'petlost')})
    return done, failed

def main(photos: Path|None, only: list[str], again: list[str], given: dict[str, str], count: int, variables: dict, keep: Path, to: Path) -> int: # exit code
    keep.mkdir(parents=True, exist_ok=True)
    args = {name: given.get(name, step.args.format(count=count, half=count // 2)) for name, step in STEPS.items()}
    asked = f'make bench{" PHOTOS=FOLDER" * bool(photos)}' + ''.join(f' {name}={value}' for name, value in variables.items() if value)
    done, failed = steps_done(only, again, photos, args, keep)
    if not done: print('nothing was measured', file=sys.stderr); return 1
    write_file(to, (json.dumps(dict(made_by=asked, steps=done), indent=1) + '\n').encode())
    found = read_standing(to)
    print('\n'.join(['', step_table(found), '', *([accuracy_table(found), ''] if 'rivals' in done else []), job_table(found), '', f'written to {to}']))
    for name in failed: print(f'{name} failed, and is not in the table: its words are in {keep / name}.txt', file=sys.stderr)
    return bool(failed)

if __name__ == '__main__':
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument('--photos', type=lambda text: Path(text).resolve(), help='labelled photos; else pets are drawn')
    asked.add_argument('--only', nargs='+', choices=STEPS, default=list(STEPS), help='steps that may run; what others have found is in the table')
    asked.add_argument('--again', nargs='*', default=None, help='steps to run although they are done; without a name, all')
    asked.add_argument('--count', type=int, default=20_000, help='vectors or photos in index and mining, and twice as many as in engines')
    asked.add_argument('--some', type=int, help='pets of each source in rivals; by default all')
    asked.add_argument('--args', nargs=2, action='append', default=[], metavar=('STEP', 'ARGS'), help='other arguments for a step')
    asked.add_argument('--keep', type=lambda text: Path(text).resolve(), default=ROOT / 'bench', help='what is kept between runs')
    asked.add_argument('--to', type=lambda text: Path(text).resolve(), default=ROOT / 'nbs' / 'where_we_stand.json', help='the file that the docs show')
    told = asked.parse_args()
    again = [] if told.again is None else told.again if told.again not in ([], ['1']) else list(STEPS)
    if unknown := {*again, *(name for name, _ in told.args)} - set(STEPS): asked.error(f'no step {sorted(unknown)[0]}: {", ".join(STEPS)}')
    some = dict(rivals=f'--some {told.some}') if told.some else {}
    sys.exit(main(told.photos, told.only, again, some | dict(told.args), told.count, dict(SOME=told.some, COUNT=told.count if told.count != 20_000 else None), told.keep, told.to))
