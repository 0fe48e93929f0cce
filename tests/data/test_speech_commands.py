from __future__ import annotations

import tarfile
import wave
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from hdapbench.data import count_classes, load_data, speech
from hdapbench.data.speech import decode_speech
from hdapbench.errors import DataError
from hdapbench.spec import DataSpec

SHAPE = (1, 49, 10)
WORDS = {"left": 300.0, "right": 1200.0, "stop": 3000.0}


def recording(samples: np.ndarray, *, rate: int = 16_000, n_channels: int = 1) -> bytes:
    stream = BytesIO()
    with wave.open(stream, "wb") as out:
        out.setnchannels(n_channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return stream.getvalue()


def tone(hertz: float, *, seconds: float = 1.0, loudness: float = 0.5) -> np.ndarray:
    return loudness * np.sin(2 * np.pi * hertz * np.arange(int(16_000 * seconds)) / 16_000)


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """Eight recordings of each of three words, two of them in the test list, and noise that is no word."""
    root = tmp_path / "speech"
    tested = []
    for word, hertz in WORDS.items():
        (root / word).mkdir(parents=True)
        for number in range(8):
            name = f"{word}/{number:08x}_nohash_0.wav"
            (root / name).write_bytes(recording(tone(hertz * (1 + number / 100), seconds=0.5 + number / 10)))
            tested += [name] if number < 2 else []
    (root / "_background_noise_").mkdir()
    (root / "_background_noise_" / "hum.wav").write_bytes(recording(tone(50.0)))
    (root / "testing_list.txt").write_text("\n".join(tested) + "\n")
    (root / "validation_list.txt").write_text("left/00000003_nohash_0.wav\n")
    return root


def load(source: Path, shape: tuple[int, int, int] = SHAPE, **options: object):
    spec = DataSpec(name="speech-commands", path=str(source), search_share=0.2, **options)
    return load_data(spec, shape, base_dir=Path(), cache_dir=source.parent / "cache")


def test_the_published_layout_is_read_from_a_folder_or_an_archive(commands):
    archive = commands.parent / "speech_commands.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(commands, arcname=".")

    data = load(commands)

    assert (len(data.train) + len(data.search), len(data.test), data.n_classes) == (18, 6, 3)
    assert data.test.labels.bincount().tolist() == [2, 2, 2]
    assert load(archive).content_hash == data.content_hash
    assert [count_classes("speech-commands", source) for source in (commands, archive)] == [3, 3]


def test_coefficients_are_those_of_a_direct_computation(monkeypatch):
    """Windows, spectrum, bands and cosine transform written out by sums, for one frame."""
    samples = tone(700.0) + tone(2100.0, loudness=0.2)
    monkeypatch.setattr(speech, "SCALES", (1.0, 1.0))
    monkeypatch.setattr(speech, "OFFSETS", (128.0, 128.0))
    frame, window = 7, 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(480) / 479)
    part = np.round(samples * 32767)[frame * 320 : frame * 320 + 480] / 32768 * window
    bins = np.arange(257)
    waves = np.exp(-2j * np.pi * bins[:, None] * np.arange(480) / 512)
    power = np.abs(waves @ part) ** 2
    mel = 1127 * np.log(1 + bins * 16_000 / 512 / 700)
    edges = np.linspace(1127 * np.log(1 + 20 / 700), 1127 * np.log(1 + 4000 / 700), 42)
    energies = [
        sum(p * max(0, min((m - a) / (b - a), (c - m) / (c - b))) for p, m in zip(power, mel, strict=True))
        for a, b, c in zip(edges, edges[1:], edges[2:], strict=False)
    ]
    logs = np.log(np.maximum(energies, 1e-6))
    expected = [
        np.sqrt((1 if k == 0 else 2) / 40) * sum(v * np.cos(np.pi * k * (i + 0.5) / 40) for i, v in enumerate(logs))
        for k in range(10)
    ]

    picture = decode_speech(BytesIO(recording(samples)), SHAPE)

    assert picture.shape == SHAPE
    np.testing.assert_allclose(picture[0, frame], np.array(expected) + 128, atol=0.6)


def test_short_recordings_end_in_silence_and_long_ones_are_cut():
    short = decode_speech(BytesIO(recording(tone(500.0, seconds=0.3))), SHAPE)[0]
    full = decode_speech(BytesIO(recording(tone(500.0))), SHAPE)[0]
    long = decode_speech(BytesIO(recording(tone(500.0, seconds=2.0))), SHAPE)[0]

    np.testing.assert_array_equal(long, full)
    np.testing.assert_array_equal(short[:13], full[:13])
    assert len(np.unique(short[16:], axis=0)) == 1
    assert short[16, 0] < full[16, 0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (recording(tone(500.0), rate=8000), "8000 Hz"),
        (recording(tone(500.0), n_channels=2), "2 channels"),
        (b"RIFF", "no WAV file"),
    ],
)
def test_other_recordings_are_named_or_left_out(commands, content, reason):
    (commands / "left" / "00000005_nohash_0.wav").write_bytes(content)

    with pytest.raises(DataError, match=rf"left/00000005_nohash_0\.wav \(.*{reason}.*data\.corrupt: skip"):
        load(commands)
    assert load(commands, corrupt="skip").n_skipped == 1


def test_a_missing_test_list_or_set_is_one_error_that_says_where_to_get_it(commands):
    (commands / "testing_list.txt").unlink()

    with pytest.raises(DataError, match=r"holds no testing_list\.txt; get speech_commands_v0\.02\.tar\.gz"):
        load(commands)
    with pytest.raises(DataError, match=r"there is no '.*absent'; get speech_commands_v0\.02\.tar\.gz"):
        load(commands.parent / "absent")


@pytest.mark.parametrize("shape", [(3, 49, 10), (1, 49, 41)])
def test_shapes_that_no_recording_has_are_refused(commands, shape):
    with pytest.raises(DataError, match=r"input_shape \[1, frames, coefficients\]"):
        load(commands, shape)


@pytest.mark.data
def test_real_recordings_are_read_from_their_archive(data_root, tmp_path):
    archive = data_root / "spoken-digits-16k.tar.xz"
    if not archive.is_file():
        pytest.skip(f"there is no {archive}")

    data = load_data(DataSpec(name="speech-commands", path=str(archive)), SHAPE, base_dir=tmp_path, cache_dir=tmp_path)

    pixels = data.train.images[:].float() / 255
    assert data.n_classes == 10
    assert data.train.mean == pytest.approx((float(pixels.mean()),), abs=0.03)
    assert data.train.std == pytest.approx((float(pixels.std()),), abs=0.03)
    assert float(((pixels == 0) | (pixels == 1)).float().mean()) < 0.01  # hardly anything is cut off


def test_speakers_that_are_held_out_are_tested_and_nobody_else_is(commands):
    speakers = ["00000001", "00000004"]
    (commands / "testing_list.txt").unlink()

    data = load(commands, test_speakers=speakers)

    assert (len(data.train) + len(data.search), len(data.test)) == (18, 6)
    assert data.test.labels.bincount().tolist() == [2, 2, 2]
    assert load(commands, test_speakers=["00000002"]).content_hash != data.content_hash


@pytest.mark.parametrize(("speakers", "said"), [(["theo"], "no recordings of theo"), (None, "names all speakers")])
def test_speakers_who_are_not_there_or_are_all_are_refused_with_those_who_are(commands, speakers, said):
    with pytest.raises(DataError, match=f"{said}.*00000000, 00000001"):
        load(commands, test_speakers=speakers or [f"{number:08x}" for number in range(8)])


def test_sets_without_speakers_have_none_to_test():
    with pytest.raises(ValueError, match="digits has no speakers"):
        DataSpec(name="digits", test_speakers=["theo"])
