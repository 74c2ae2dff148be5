"What shelters send: faulty lists, hostile ZIPs, strange names, huge folders."
import csv, os, zipfile
from pathlib import Path
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from petlost.facts import SPECIES, parse_place, parse_species, parse_time
from petlost.lists import check_row
from petlost.photo import BadPhoto, open_photo
from petlost.photoset import read_photos, write_rejected
from running import petlost, said

def picture(path: Path, i=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((48, 40), 60).convert('RGB').rotate(i).save(path)

def hundred(folder: Path) -> list[dict]:
    "A hundred photos and their rows, three of them with faults."
    rows = [dict(photo=f'{i}.jpg', report=f'r{i // 2}', species='dog', status='lost', lat='41.9', lon='12.5', seen_at='2026-03-04', keeper=f'Ana {i}') for i in range(100)]
    for i in range(100): picture(folder / f'{i}.jpg', i)
    rows[10]['species'], rows[50]['lat'], rows[99]['seen_at'] = 'dragon', '91', '04/03/2026'
    return rows

def write(path: Path, rows: list[dict]):
    with open(path, 'w', newline='', encoding='utf-8') as f:
        table = csv.DictWriter(f, rows[0]); table.writeheader(); table.writerows(rows)

def test_97_of_100_rows_go_in_and_three_come_back_with_reasons(tmp_path):
    rows = hundred(tmp_path / 'photos')
    write(tmp_path / 'photos' / 'export.csv', rows)
    done = petlost('index', tmp_path / 'photos' / 'export.csv', '--to', tmp_path / 'c', '--model', 'colour-histogram')
    assert done.returncode == 0 and done.stdout.startswith('97 photos added, 0 were there already, 3 skipped'), done
    back = list(csv.DictReader(open(tmp_path / 'c-rejected' / 'export.csv', encoding='utf-8-sig')))
    assert [(row['photo'], row['keeper']) for row in back] == [('10.jpg', 'Ana 10'), ('50.jpg', 'Ana 50'), ('99.jpg', 'Ana 99')]
    assert [word in row['reason'] for word, row in zip(('dragon', '91', '04/03/2026'), back)] == [True] * 3
    for row in back: row.update(species='dog', lat='41.9', seen_at='2026-03-04')
    write(tmp_path / 'c-rejected' / 'export.csv', back)
    again = petlost('index', tmp_path / 'c-rejected' / 'export.csv', '--to', tmp_path / 'c', '--root', tmp_path / 'photos', '--model', 'colour-histogram')
    assert again.stdout.startswith('3 photos added, 0 were there already, 0 skipped') and not (tmp_path / 'c-rejected' / 'export.csv').exists()
    assert petlost('index', tmp_path / 'photos', '--to', tmp_path / 'c', '--model', 'colour-histogram').returncode == 0

def test_a_list_with_nothing_right_still_comes_back(tmp_path):
    picture(tmp_path / 'a.jpg')
    write(tmp_path / 'l.csv', [dict(photo='a.jpg', report='r', species='dragon')])
    done = petlost('index', tmp_path / 'l.csv', '--to', tmp_path / 'c')
    assert done.returncode == 1 and 'no row can be used' in said(done)[-1]
    assert 'dragon' in (tmp_path / 'c-rejected' / 'l.csv').read_text(encoding='utf-8-sig') and not (tmp_path / 'c').exists()

def packed(path: Path, entries: dict[str, bytes], link: str|None=None) -> Path:
    with zipfile.ZipFile(path, 'w') as z:
        for name, data in entries.items(): z.writestr(name, data)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            z.writestr(info, '/etc/passwd')
    return path

@pytest.mark.parametrize('name', ['../../x', '/etc/x.jpg', 'a/../../x.jpg', '..\\..\\x.jpg', 'C:\\x.jpg'])
def test_a_zip_that_points_outside_is_refused_by_name(tmp_path, name):
    picture(tmp_path / 'good.jpg')
    tricky = packed(tmp_path / 'export.zip', {'rex/1.jpg': (tmp_path / 'good.jpg').read_bytes(), name: b'x'})
    done = petlost('index', tricky, '--to', tmp_path / 'c')
    assert done.returncode == 1 and len(said(done)) == 1 and 'export.zip' in said(done)[0] and repr(name) in said(done)[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ['export.zip', 'good.jpg']

def test_other_bad_zips(tmp_path):
    picture(tmp_path / 'good.jpg')
    good = (tmp_path / 'good.jpg').read_bytes()
    with pytest.raises(ValueError, match='is a link'): read_photos(packed(tmp_path / 'l.zip', {'a.jpg': good}, 'b.jpg'))
    path = packed(tmp_path / 'damaged.zip', {'a.jpg': good, 'b.jpg': good})
    data = path.read_bytes()
    path.write_bytes(data.replace(good, good[:100] + bytes(9) + good[109:], 1))
    photos = read_photos(path).photos
    with pytest.raises(BadPhoto, match='a.jpg: damaged in its ZIP'): open_photo(photos[0].path, name=photos[0].name)
    assert open_photo(photos[1].path).size == (48, 40)
    with zipfile.ZipFile(tmp_path / 'bomb.zip', 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('bomb.jpg', bytes(200 * 2**20))
    with pytest.raises(BadPhoto, match='larger than 64 MB'): open_photo(read_photos(tmp_path / 'bomb.zip').photos[0].path)
    with pytest.raises(ValueError, match='not a readable ZIP'): read_photos((tmp_path / 'good.jpg').rename(tmp_path / 'photo.zip'))

def test_a_zip_is_the_same_as_its_folder(drawn, tmp_path):
    with zipfile.ZipFile(tmp_path / 'export.zip', 'w', zipfile.ZIP_DEFLATED) as z:
        for path in sorted(drawn.parent.rglob('*')): z.write(path, path.relative_to(drawn.parent))
    folder, archive = read_photos(drawn.parent), read_photos(tmp_path / 'export.zip')
    assert [p.name for p in folder.photos] == [p.name for p in archive.photos] and folder.reports == archive.reports
    done = [petlost('index', src, '--to', tmp_path / 'c', '--model', 'colour-histogram') for src in (drawn.parent, tmp_path / 'export.zip')]
    assert done[1].stdout.startswith('0 photos added, 16 were there already')

NAMES = ['with space.jpg', 'Mia 🐈‍⬛.jpg', 'line\nbreak.jpg', 'tab\there.jpg', '-rf.jpg', "quote'\".jpg", '%2e%2e.jpg', 'x' * 240 + '.jpg', '猫.JPG']

def test_strange_names_go_all_the_way(tmp_path):
    for i, name in enumerate(NAMES): picture(tmp_path / 'photos' / f'report {name[:9]}' / name, i)
    done = petlost('index', tmp_path / 'photos', '--to', tmp_path / 'c', '--model', 'colour-histogram')
    assert done.returncode == 0 and done.stdout.startswith(f'{len(NAMES)} photos added'), done
    shown = petlost('search', tmp_path / 'photos' / f'report {NAMES[2][:9]}' / NAMES[2], '--in', tmp_path / 'c', '-k', 20)
    assert len(shown.stdout.splitlines()) == len(NAMES) and r'line\nbreak.jpg' in shown.stdout
    broken = tmp_path / 'photos' / 'two\nlines' / 'bro\nken.jpg'
    broken.parent.mkdir()
    broken.write_text('no picture')
    assert r'skipped two\nlines/bro\nken.jpg: not a picture, or too damaged to read' in said(petlost('index', tmp_path / 'photos', '--to', tmp_path / 'c', '--model', 'colour-histogram'))

def test_a_name_that_is_no_text_is_named_and_passed_over(tmp_path):
    picture(tmp_path / 'good.jpg')
    os.rename(tmp_path / 'good.jpg', os.fsencode(tmp_path) + b'/caf\xe9.jpg')
    picture(tmp_path / 'good.jpg')
    found = read_photos(tmp_path)
    assert [p.name for p in found.photos] == ['good.jpg'] and [str(bad) for bad in found.problems] == [r'caf\udce9.jpg: its name is not readable text (UTF-8); rename it']

def test_links_that_go_in_circles(tmp_path):
    picture(tmp_path / 'rex' / '1.jpg')
    (tmp_path / 'rex' / 'again').symlink_to(tmp_path)
    (tmp_path / 'rex' / 'loop.jpg').symlink_to(tmp_path / 'rex' / 'loop.jpg')
    (tmp_path / 'rex' / 'gone.jpg').symlink_to(tmp_path / 'nowhere.jpg')
    os.mkfifo(tmp_path / 'rex' / 'pipe.jpg')
    found = read_photos(tmp_path)
    assert [p.name for p in found.photos] == ['rex/1.jpg', 'rex/gone.jpg', 'rex/loop.jpg', 'rex/pipe.jpg']
    reasons = []
    for photo in found.photos[1:]:
        with pytest.raises(BadPhoto) as bad: open_photo(photo.path, name=photo.name)
        reasons.append(bad.value.reason)
    assert reasons == ['no such file or directory', 'too many levels of symbolic links', 'not a file']

def test_a_hundred_thousand_entries(tmp_path):
    for i in range(100_000): (tmp_path / f'{i}.jpg').touch()
    picture(tmp_path / 'rex' / '1.jpg')
    found = read_photos(tmp_path)
    assert len(found.photos) == len(found.reports) == 100_001 and not found.problems
    assert found.photos[-1].report == 'rex'

def test_photos_that_vanish_while_they_are_taken_in(tmp_path):
    for i in range(9): picture(tmp_path / 'photos' / f'{i}.jpg', i)
    found = read_photos(tmp_path / 'photos')
    for i in (2, 5): (tmp_path / 'photos' / f'{i}.jpg').unlink()
    from petlost.search import index_photos
    done = index_photos(found, tmp_path / 'c', 'colour-histogram')
    assert done.added == 7 and [str(bad) for bad in done.problems] == ['2.jpg: no such file or directory', '5.jpg: no such file or directory']
    assert write_rejected(done.problems, found, tmp_path / 'r.csv') == 2

@given(st.dictionaries(st.sampled_from(['photo', 'report', 'pet', 'microchip', 'species', 'status', 'lat', 'lon', 'seen_at', 'time_zone', 'source']), st.text(max_size=40)))
@settings(max_examples=500, deadline=None)
def test_any_row_is_read_or_refused_with_a_reason(row):
    try: read = check_row({'photo': '', 'report': ''} | row)
    except ValueError as e: assert str(e)
    else:
        assert read.photo and read.report and '..' not in read.photo.split('/') and not read.photo.startswith('/')
        assert read.species in (None, *SPECIES) and (read.lat is None) == (read.lon is None) and (read.lat is None or abs(read.lat) <= 90)

@given(st.text(max_size=30) | st.datetimes().map(str), st.none() | st.sampled_from(['Europe/Rome', 'Asia/Kathmandu', 'UTC', '../etc/passwd', 'x' * 300]))
@settings(max_examples=300, deadline=None)
def test_what_is_read_once_is_read_the_same_again(text, zone):
    for parse in (lambda t: parse_time(t, zone), parse_species):
        try: first = parse(text)
        except ValueError: continue
        assert parse(first) == first
    try: place = parse_place(text, text)
    except ValueError: return
    assert place is None or parse_place(*map(str, place)) == place
