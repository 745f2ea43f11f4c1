"""Row 25 of the faults: archives that mean harm, or are just broken."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import tracemalloc
import zipfile

import pytest

from pipeline_lib.datasets.files import archives
from pipeline_lib.errors import UserError
from tests.faults.archives import special, tar, zipped


@pytest.fixture
def picture(workspace) -> bytes:
    path = workspace.add("seed/seed.png", 3)
    content = path.read_bytes()
    path.unlink()
    return content


def use(workspace, content: bytes, name: str) -> None:
    (workspace.root / name).write_bytes(content)
    workspace.set(data={"path": name})


OUTWARD = ["../cat/1.png", "/cat/1.png", "cat/../../1.png", "C:/cat/1.png"]


@pytest.mark.parametrize("name", OUTWARD)
@pytest.mark.parametrize("pack", [tar, zipped])
def test_names_that_lead_out_are_refused(workspace, picture, pack, name: str):
    use(workspace, pack(("dog/1.png", picture), (name, picture)), "photos.bin")
    message = workspace.refused("ingest", "download")
    assert message.startswith(f"photos.bin: {name!r}: the path leads out of the archive")


def test_a_windows_path_in_a_zip_is_a_path(workspace, picture):
    use(workspace, zipped(("cat\\1.png", picture), ("dog\\1.png", picture)), "photos.zip")
    workspace.run("download", "ingest")
    assert [row["source"] for row in workspace.read("labels.parquet")] == ["cat/1.png", "dog/1.png"]
    use(workspace, zipped(("..\\1.png", picture)), "photos.zip")
    workspace.run("download")
    with pytest.raises(Exception, match="leads out of the archive"):
        workspace.run("ingest")


def unmarked(name: bytes, *more: tuple[str, bytes], content: bytes) -> bytes:
    """A zip in which nothing says how a name is encoded, as Finder and `zip` write it."""
    stand_in = "x" * len(name)
    return zipped((stand_in, content), *more).replace(stand_in.encode(), name)


def test_a_name_in_utf_8_need_not_be_marked_so_in_a_zip(workspace, picture):
    """Else 桜 would be a class called µí£, and no row of a table would find its image."""
    packed = unmarked("桜/é\u200c1.png".encode(), ("犬/1.png", picture), content=picture)
    use(workspace, packed, "photos.zip")
    workspace.run("download", "ingest")
    names = [row["source"] for row in workspace.read("labels.parquet")]
    assert names == ["桜/é\u200c1.png", "犬/1.png"]


@pytest.mark.parametrize(("name", "encoding"), [("桜/1.png", "cp932"), ("ΓΑΤΑ/1.png", "cp737")])
def test_a_name_in_an_unknown_encoding_is_refused_in_a_zip(workspace, picture, name, encoding):
    packed = unmarked(name.encode(encoding), ("dog/1.png", picture), content=picture)
    use(workspace, packed, "photos.zip")
    message = workspace.refused("ingest", "download")
    advice = "pack the files as tar, or with names in UTF-8"
    assert "/1.png: the name is not marked as UTF-8 (some packers of Windows do not)" in message
    assert advice in message


KINDS = {
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
}


@pytest.mark.parametrize("kind", KINDS)
def test_links_and_devices_in_a_tar_are_refused(workspace, picture, kind: str):
    bad = special("cat/1.png", KINDS[kind], "/etc/passwd" if "link" in kind else "")
    use(workspace, tar(("dog/1.png", picture), (bad, b"")), "photos.tar")
    message = workspace.refused("ingest", "download")
    assert message.startswith("photos.tar: cat/1.png: not a plain file (a link or a device)")


def test_links_in_a_zip_are_refused(workspace, picture):
    link = zipfile.ZipInfo("cat/1.png")
    link.external_attr = 0o120777 << 16
    use(workspace, zipped(("dog/1.png", picture), (link, b"/etc/passwd")), "photos.zip")
    assert "not a plain file" in workspace.refused("ingest", "download")


def test_links_out_of_a_folder_are_refused(workspace):
    workspace.two_classes(2)
    (workspace.root / "secret.png").write_bytes(b"secret")
    (workspace.photos / "cat/link.png").symlink_to(workspace.root / "secret.png")
    assert workspace.refused("download").startswith("photos/cat/link.png: a link out of the folder")
    (workspace.photos / "cat/link.png").unlink()
    (workspace.photos / "bird").symlink_to(workspace.photos / "cat")
    assert workspace.refused("download").startswith("photos/bird: a link to a folder")


def test_the_number_of_members_is_limited(workspace, picture, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 50)
    members = [(f"cat/{number}.png", picture) for number in range(51)]
    for name, content in (("photos.tar", tar(*members)), ("photos.zip", zipped(*members))):
        use(workspace, content, name)
        assert "one file more than the limit of 50" in workspace.refused("ingest", "download")


def test_one_member_cannot_be_huge(workspace, picture, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1000)
    use(workspace, zipped(("cat/1.png", picture), ("cat/2.png", bytes(1001))), "photos.zip")
    message = workspace.refused("ingest", "download")
    assert message.startswith("photos.zip: cat/2.png: 1001 bytes, the limit for one file is 1000")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bound_are_refused(workspace, picture, method: int):
    """Their members unpack whole, whatever size the archive tells of them."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("cat/1.png", picture)
    use(workspace, file.getvalue(), "photos.zip")
    message = workspace.refused("ingest", "download")
    assert message.startswith("photos.zip: cat/1.png: packed in an unusual way; pack it with the")


def test_a_member_that_tells_of_few_bytes_takes_no_more_memory(tmp_path):
    content = zipped(("cat/1.png", bytes(200 << 20)))
    true, told = (struct.pack("<I", size) for size in (200 << 20, 69))
    path = tmp_path / "photos.zip"
    path.write_bytes(content.replace(true, told))
    tracemalloc.start()
    with (
        pytest.raises(UserError, match=r"photos\.zip: damaged archive \(Bad CRC-32"),
        archives.open_archive(path, "photos.zip") as opened,
    ):
        opened.read("cat/1.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


@pytest.mark.parametrize(
    "headers",
    [{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, None],
    ids=["a number that is none", "headers of headers"],
)
def test_headers_that_tarfile_has_no_answer_to_are_damage(workspace, picture, headers):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        header = tarfile.TarInfo("cat/1.png")
        header.size, header.pax_headers = len(picture), headers or {"a": "b"}
        archive.addfile(header, io.BytesIO(picture))
    content = file.getvalue()
    if headers is None:
        content = content[:1024] * 3000 + content  # the header, and what it says: of what follows
    use(workspace, content, "photos.tar")
    assert "photos.tar: damaged archive (" in workspace.refused("ingest", "download")


@pytest.mark.parametrize("name", ["cat/\x1b]0;gone\x07.png", "cat/a\nb.png", "a/b/c/\x1b[2J.png"])
def test_no_name_moves_the_terminal(workspace, picture, name: str):
    use(workspace, tar((special(name, tarfile.SYMTYPE, "x"), b"")), "photos.tar")
    message = workspace.refused("ingest", "download")
    assert message.isprintable()
    use(workspace, tar((name, picture), ("a/b/c/d/e.png", picture)), "photos.tar")
    assert workspace.refused("ingest", "download").isprintable()


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar.gz"])
def test_a_bomb_is_not_unpacked(workspace, monkeypatch, name: str):
    """Zeros, packed a thousandfold: over the ratio, and seen before all of it is unpacked."""
    monkeypatch.setattr(archives, "RATIO_FROM_BYTES", 1 << 24)
    zeros = [(f"cat/{number}.png", bytes(10 << 20)) for number in range(3)]
    content = zipped(*zeros) if name.endswith("zip") else gzip.compress(tar(*zeros), 6)
    use(workspace, content, name)
    message = workspace.refused("ingest", "download")
    assert "may be a decompression bomb" in message
    assert (
        sum(path.stat().st_size for path in workspace.root.rglob("*")) < 4 * len(content) + 100_000
    )


def test_a_name_twice_is_refused(workspace, picture):
    use(workspace, tar(("cat/1.png", picture), ("./cat/1.png", picture)), "photos.tar")
    assert workspace.refused("ingest", "download").startswith(
        "photos.tar: cat/1.png: is in the archive twice"
    )


def test_the_folder_that_holds_all_of_it_is_no_class(workspace, picture, capsys):
    """As `tar -czf photos.tar.gz -C photos .` and shutil.make_archive pack it."""
    root, files = (
        special("./", tarfile.DIRTYPE),
        [(f"./{n}/1.png", picture) for n in ("cat", "dog")],
    )
    for name, content in {
        "photos.tar": tar((root, b""), *files),
        "photos.tar.gz": tar((root, b""), *files, mode="w:gz"),
        "photos.zip": zipped(("./", b""), *files),
    }.items():
        use(workspace, content, name)
        workspace.run("download", "ingest")
        sources = [row["source"] for row in workspace.read("labels.parquet")]
        assert sources == ["cat/1.png", "dog/1.png"]
    assert "ignored" not in capsys.readouterr().out


def test_a_name_that_is_no_text_is_refused(workspace, picture):
    use(workspace, tar((os.fsdecode(b"cat/\xff.png"), picture)), "photos.tar")
    assert "the name is not UTF-8" in workspace.refused("ingest", "download")


def test_odd_names_work(workspace, picture):
    names = ["cat/new\nline.png", "cat/" + "l" * 251 + ".png", "dog/\N{DOG FACE}.PNG"]
    use(workspace, tar(*[(name, picture) for name in names]), "photos.tar")
    workspace.run("download", "ingest")
    assert [row["source"] for row in workspace.read("labels.parquet")] == sorted(names)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("name", ["photos.tar", "photos.tar.gz", "photos.zip"])
def test_truncated_archives_are_refused(workspace, picture, name: str, share: float):
    members = [(f"cat/{number}.png", picture + os.urandom(3000)) for number in range(9)]
    content = (
        zipped(*members)
        if name.endswith("zip")
        else tar(*members, mode="w:gz" if "gz" in name else "w")
    )
    use(workspace, content[: int(len(content) * share) // 512 * 512], name)
    assert workspace.refused("ingest", "download").startswith(f"{name}: damaged archive")


@pytest.mark.parametrize("place", [0, 124, 148], ids=["name", "size", "checksum"])
def test_a_damaged_header_does_not_end_the_archive_unnoticed(workspace, picture, place: int):
    """tarfile takes it for the end, and the images behind it for none."""
    content = bytearray(tar(*[(f"{name}/1.png", picture) for name in ("cat", "dog", "owl")]))
    content[content.index(b"owl/1.png") + place] ^= 1
    use(workspace, bytes(content), "photos.tar")
    message = workspace.refused("ingest", "download")
    assert message.startswith(
        "photos.tar: damaged archive (it ends too early, or within it a header"
    )


def test_what_is_no_archive_is_refused_at_once(workspace):
    for content, found in (
        (b"", "an empty file"),
        (b"<html>", "a web page"),
        (b"7z\xbc\xaf", "something else"),
    ):
        use(workspace, content, "photos.zip")
        message = workspace.refused("download")
        assert message.startswith(f"photos.zip: not a tar, tar.gz or zip archive but {found}")


def test_missing_and_changed_archives_are_refused(workspace, picture):
    workspace.set(data={"path": "nowhere.zip"})
    assert workspace.refused("download").startswith("nowhere.zip: not found")
    use(workspace, zipped(("cat/1.png", picture)), "photos.zip")
    workspace.set(data={"sha256": "0" * 64})
    assert "data.sha256 says 0000" in workspace.refused("download")


def test_folders_too_deep_or_without_images_are_refused(workspace, picture):
    use(workspace, tar(("a/b/c/d/1.png", picture), ("e/1.png", picture)), "photos.tar")
    assert workspace.refused("ingest", "download").startswith(
        "photos.tar: a/b/c/d/1.png: lies too deep"
    )
    use(workspace, tar(("cat/readme.txt", b"hello")), "photos.tar")
    workspace.run("download")
    assert workspace.refused("ingest").startswith("photos.tar: holds no image")


def test_an_encrypted_member_is_refused(workspace, picture):
    content = bytearray(zipped(("cat/1.png", picture)))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    use(workspace, bytes(content), "photos.zip")
    assert "encrypted" in workspace.refused("ingest", "download")


def test_a_failed_download_keeps_the_last_good_snapshot(workspace):
    workspace.two_classes(2)
    workspace.run("download")
    before = (workspace.root / "data/raw/images.archive").read_bytes()
    workspace.set(data={"path": "nowhere"})
    with pytest.raises(Exception, match="nowhere: not found"):
        workspace.run("download")
    assert (workspace.root / "data/raw/images.archive").read_bytes() == before
