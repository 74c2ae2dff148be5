"""Checkpoints of SAM as they come from strangers: damaged at random, forged, or over a bad line. None may do more than be refused, in one line.

The checkpoints have the names and shapes of a real vit_b; each tensor is one number, stretched, so that a file has 100 KB."""
import functools, hashlib, http.server, io, subprocess, sys, threading, zipfile
from pathlib import Path
import pytest
from hypothesis import given, settings, strategies as st
from fuzz_photos import EVEN, damaged

torch = pytest.importorskip('torch')
from petlost.sam import fetch_checkpoint, load_sam, read_weights, sam_kind, sam_shapes # noqa: E402

def saved(weights, **options) -> bytes:
    torch.save(weights, buf := io.BytesIO(), **options)
    return buf.getvalue()

def stretched(**more) -> dict: return {name: torch.zeros(1).expand(shape) for name, shape in sam_shapes()['vit_b'].items()} | more

@functools.cache
def good(archive: bool) -> bytes: return saved(stretched(), _use_new_zipfile_serialization=archive)

@pytest.fixture(scope='module')
def file(tmp_path_factory) -> Path: return tmp_path_factory.mktemp('sam') / 'sam_vit_b.pth'

def taken(path: Path, data: bytes) -> bool:
    "Whether a file is taken for a vit_b; if not, it is refused as it should be."
    path.write_bytes(data)
    try: assert sam_kind(read_weights(path)) == 'vit_b'
    except ValueError as e:
        assert str(e).isprintable() and 10 < len(str(e)) < 400 and 'weights_only' not in str(e)
        return False
    return True

DAMAGE = st.lists(st.tuples(st.sampled_from(['put', 'put', 'cut', 'end', 'twice']), EVEN, st.binary(min_size=1, max_size=12), EVEN), min_size=1, max_size=3)

def test_whole_files_are_taken(file):
    for archive in (True, False): assert taken(file, good(archive))

@pytest.mark.filterwarnings('error')
@settings(max_examples=250, deadline=None, database=None)
@given(st.booleans(), DAMAGE)
def test_damaged_files_are_refused(file, archive, damage): taken(file, damaged(good(archive), damage, []))

def forged(change) -> bytes:
    "The good archive with its pickle changed, and every checksum right again."
    source, buf = zipfile.ZipFile(io.BytesIO(good(True))), io.BytesIO()
    with zipfile.ZipFile(buf, 'w') as target:
        for item in source.infolist():
            data = source.read(item)
            target.writestr(item.filename, change(data) if item.filename.endswith('data.pkl') else data)
    return buf.getvalue()

@settings(max_examples=150, deadline=None, database=None)
@given(DAMAGE)
def test_forged_pickles_are_refused(file, damage): taken(file, forged(lambda data: damaged(data, damage, [])))

def test_code_in_a_checkpoint_is_not_run(file, tmp_path):
    class Trap:
        def __reduce__(self): return Path.touch, (tmp_path / 'sprung',)
    for archive in (True, False): assert not taken(file, saved(stretched(trap=Trap()), _use_new_zipfile_serialization=archive))
    assert not (tmp_path / 'sprung').exists()

@pytest.mark.parametrize('value', [3, [1.], torch.zeros(1, 256, dtype=torch.long), torch.zeros(1, 256, dtype=torch.cfloat), torch.zeros(1, 256).to_sparse(),
                                   torch.zeros(1, 256, device='meta'), torch.zeros(256), torch.tensor(0.)])
def test_what_is_no_plain_tensor_of_its_shape(file, value):
    assert not taken(file, saved(stretched(**{'mask_decoder.iou_token.weight': value})))
    assert not taken(file, saved(stretched(**{'image_encoder.pos_embed': value})))

def test_what_is_no_dictionary_of_tensors(file):
    for thing in (None, 3, [torch.zeros(2)], torch.zeros(2), {}, {3: torch.zeros(2)}, {'model': stretched()}): assert not taken(file, saved(thing))

def test_a_packed_archive_is_not_unpacked(file):
    with zipfile.ZipFile(buf := io.BytesIO(), 'w', zipfile.ZIP_DEFLATED) as archive: archive.writestr('archive/data.pkl', bytes(10**8))
    assert not taken(file, buf.getvalue())

def test_half_precision_is_read(file):
    file.write_bytes(saved({name: value.half() for name, value in stretched().items()}))
    sam, version = load_sam(file)
    assert version.startswith('vit_b-') and sam.mask_decoder.iou_token.weight.dtype == torch.float32

def test_the_module_by_itself():
    "What a notebook imports along the way, its module might lack."
    from PIL import Image
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
    from petlost.sam import SamSegmenter
    from petlost.segment import get_segmenter
    encoder = ImageEncoderViT(img_size=64, embed_dim=16, depth=1, num_heads=2, out_chans=32)
    sam = Sam(encoder, PromptEncoder(32, (4, 4), (64, 64), 4), MaskDecoder(transformer_dim=32, transformer=TwoWayTransformer(1, 32, 2, 32))).eval()
    for first in (None, get_segmenter('none')):
        seg = SamSegmenter(sam=sam, first=first)([Image.new('RGB', (90, 40), 'red')])[0]
        assert seg.mask.shape == (40, 90) and seg.mask.any()

def test_neither_torch_nor_sam_is_imported_before_it_is_needed():
    code = "import sys, petlost.sam; sys.exit(any(name in sys.modules for name in ('torch', 'segment_anything', 'torchvision')))"
    assert subprocess.run([sys.executable, '-c', code], timeout=60).returncode == 0

class Line(http.server.SimpleHTTPRequestHandler):
    "A bad line: of files named `torn_...` half comes."
    def log_message(self, *args): pass
    def copyfile(self, source, target):
        data = source.read()
        target.write(data[:len(data) // 2] if '/torn_' in self.path else data)

@pytest.fixture
def server(tmp_path):
    (tmp_path / 'there').mkdir()
    handler = functools.partial(Line, directory=str(tmp_path / 'there'))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / 'there', f'http://127.0.0.1:{server.server_port}'
        server.shutdown()

def test_fetching(server, tmp_path, capfd):
    there, address = server
    (kept := tmp_path / 'kept').mkdir()
    digits = hashlib.sha256(good(True)).hexdigest()[:6]
    for name in (f'sam_{digits}.pth', f'torn_{digits}.pth', 'sam_000000.pth'): (there / name).write_bytes(good(True))
    assert fetch_checkpoint(f'{address}/sam_{digits}.pth', kept).read_bytes() == good(True)
    assert '100%' in capfd.readouterr().err
    for name, cause in {f'torn_{digits}.pth': '', 'sam_000000.pth': 'invalid hash', f'absent_{digits}.pth': '404'}.items():
        with pytest.raises(ValueError, match=f'^{name}: cannot be fetched from .*{cause}') as refused: fetch_checkpoint(f'{address}/{name}', kept)
        assert str(refused.value).isprintable()
    assert [p.name for p in kept.iterdir()] == [f'sam_{digits}.pth']

def test_fetching_anew_what_was_damaged_on_the_disk(server, tmp_path):
    there, address = server
    name = f'sam_{hashlib.sha256(good(True)).hexdigest()[:6]}.pth'
    (there / name).write_bytes(good(True))
    (tmp_path / name).write_bytes(good(True)[:-1])
    assert fetch_checkpoint(f'{address}/{name}', tmp_path).read_bytes() == good(True)

def test_nowhere_to_keep_it(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('PETLOST_CACHE', str(tmp_path / 'file' / 'cache'))
    with pytest.raises(ValueError, match='sam_vit_b_01ec64.pth: there is no folder to keep it in'): fetch_checkpoint('https://127.0.0.1:1/sam_vit_b_01ec64.pth')
