"""Spoken words as Google's Speech Commands are published: which recording is in which split, and its MFCC picture."""

from __future__ import annotations

import wave
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import PurePosixPath
from typing import IO

import numpy as np
from numpy.typing import NDArray

from hdapbench.arrays import Floats
from hdapbench.data.folder import TEST, TRAIN, VAL, Files, FolderFormat
from hdapbench.data.kinds import AUDIO_SUFFIX, suffix
from hdapbench.data.source import Contents, texts_of
from hdapbench.errors import DataError
from hdapbench.spec.data import ADVICE

VERSION = 1
"""Raised whenever the same recording gives another picture."""

TEST_LIST = "testing_list.txt"

SPEAKER_END = "_nohash_"
"""Names of files are a speaker's, this, and a number."""

SHOWN_SPEAKERS = 8

RATE = 16_000
WINDOW, FFT_SIZE = 480, 512
"""Samples of a window (30 ms), and of the transform that it is padded to."""

N_MELS, MEL_HZ = 40, (20.0, 4000.0)
FLOOR = 1e-6
"""Energy below which there is silence; samples are in [-1, 1]."""

SCALES = (1.8, 6.0)
"""Grey levels per unit of the first coefficient, which is the loudness, and of the others."""

OFFSETS = (165.0, 128.0)
"""Grey levels of zero."""


def speech_files(contents: Contents, test_speakers: Sequence[str] = ()) -> Files:
    """Recordings by split: those of the test list, and all others; folders such as ``_background_noise_`` are no words.

    Parameters
    ----------
    contents
        Of the folder or archive.
    test_speakers
        Whose recordings are tested instead of those of the list; nobody else's are.

    Raises
    ------
    DataError
        When there is no test list, or none of its files is there; when a speaker has no recordings, or nobody is left.
    """
    found = [PurePosixPath(name) for name in contents.files if suffix(name) == AUDIO_SUFFIX]
    words = {str(path): path.parts[-2] for path in found if len(path.parts) > 1 and not path.parts[-2].startswith("_")}
    if test_speakers:
        return _by_speaker(words, test_speakers, str(contents.source))
    lists = [name for name in contents.files if PurePosixPath(name).name == TEST_LIST]
    if not lists:
        raise DataError(f"'{contents.source}' holds no {TEST_LIST}; {ADVICE['speech-commands']}")
    listed = set(" ".join(texts_of(contents, lists).values()).split())
    splits: Files = {TRAIN: {}, TEST: {}, VAL: {}}
    for name, word in words.items():
        is_tested = "/".join(PurePosixPath(name).parts[-2:]) in listed
        splits[TEST if is_tested else TRAIN][name] = word
    if not splits[TEST] or not splits[TRAIN]:
        raise DataError(
            f"'{contents.source}': {TEST_LIST} must name some of the {len(words)} recordings, not all; "
            f"{ADVICE['speech-commands']}"
        )
    return splits


def _by_speaker(words: Mapping[str, str], tested: Sequence[str], source: str) -> Files:
    """Recordings, name -> word, of the tested speakers and of all others."""
    speaker = {name: PurePosixPath(name).name.partition(SPEAKER_END)[0] for name in words}
    known = sorted(set(speaker.values()))
    unknown = sorted(set(tested) - set(known))
    if unknown or set(tested) == set(known):
        some = ", ".join(known[:SHOWN_SPEAKERS]) + (", ..." if len(known) > SHOWN_SPEAKERS else "")
        wrong = f"'{source}' has no recordings of {', '.join(unknown)}" if unknown else "it names all speakers"
        raise DataError(f"data.test_speakers: {wrong}; speakers are what files are called up to {SPEAKER_END}: {some}")
    splits: Files = {TRAIN: {}, TEST: {}, VAL: {}}
    for name, word in words.items():
        splits[TEST if speaker[name] in tested else TRAIN][name] = word
    return splits


def of_speakers(test_speakers: Sequence[str]) -> FolderFormat:
    """Words as Speech Commands lays them out, tested on these speakers, or by the test list where there are none."""
    if not test_speakers:
        return SPEECH_COMMANDS
    tested = tuple(sorted(set(test_speakers)))
    files = partial(speech_files, test_speakers=tested)
    return replace(SPEECH_COMMANDS, files=files, version=(*SPEECH_COMMANDS.version, *tested))


def decode_speech(stream: IO[bytes], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Mel-frequency cepstral coefficients of the first second of a recording, shape (1, n_frames, n_coefficients).

    Windows of 30 ms at even distances (20 ms for 49 frames, as in MLPerf Tiny), power spectrum, 40 mel bands from 20
    to 4,000 Hz, logarithm, discrete cosine transform; scaled to grey levels. Shorter recordings are padded with
    silence.

    Raises
    ------
    ValueError
        When the stream is no 16 kHz mono recording of 16 bits.
    """
    samples = _samples(stream)
    _, n_frames, n_coefficients = shape
    hop = RATE // (n_frames + 1)
    padded = np.zeros(max(RATE, (n_frames - 1) * hop + WINDOW))
    padded[: len(samples)] = samples
    starts = np.arange(n_frames)[:, None] * hop
    frames = padded[starts + np.arange(WINDOW)] * np.hanning(WINDOW)  # (n_frames, window)
    power = np.abs(np.fft.rfft(frames, FFT_SIZE)) ** 2  # (n_frames, n_bins)
    mels = np.log(np.maximum(power @ _mel_bands(), FLOOR))  # (n_frames, n_mels)
    levels = mels @ _cosines(n_coefficients)
    levels[:, 0] = levels[:, 0] * SCALES[0] + OFFSETS[0]
    levels[:, 1:] = levels[:, 1:] * SCALES[1] + OFFSETS[1]
    picture: NDArray[np.uint8] = levels.round().clip(0, 255).astype(np.uint8)[None]
    return picture


def _samples(stream: IO[bytes]) -> Floats:
    """The first second, in [-1, 1]."""
    try:
        with wave.open(stream) as recording:
            form = (recording.getframerate(), recording.getnchannels(), 8 * recording.getsampwidth())
            if form != (RATE, 1, 16):
                raise ValueError(f"{form[0]} Hz, {form[1]} channels, {form[2]} bits instead of {RATE} Hz, 1, 16")
            raw = recording.readframes(RATE)
    except (wave.Error, EOFError) as error:
        raise ValueError(f"no WAV file: {error}") from error
    return np.frombuffer(raw, dtype="<i2").astype(np.float64) / 2**15


@cache
def _mel_bands() -> Floats:
    """Triangular bands at even distances in mel, shape (n_bins, n_mels)."""
    low, high = (_mel(np.array(hertz)) for hertz in MEL_HZ)
    edges = np.linspace(low, high, N_MELS + 2)
    bins = _mel(np.fft.rfftfreq(FFT_SIZE, 1 / RATE).astype(np.float64))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))


def _mel(hertz: Floats) -> Floats:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0), dtype=np.float64)


@cache
def _cosines(n_coefficients: int) -> Floats:
    """Orthonormal discrete cosine transform of type II, shape (n_mels, n_coefficients)."""
    angles = np.pi * (np.arange(N_MELS)[:, None] + 0.5) * np.arange(n_coefficients) / N_MELS
    transform: Floats = np.cos(angles) * np.sqrt(2.0 / N_MELS)
    transform[:, 0] /= np.sqrt(2.0)
    return transform


SPEECH_COMMANDS = FolderFormat(
    speech_files, ADVICE["speech-commands"], decode=decode_speech, version=("speech", VERSION)
)
"""Words as Speech Commands lays them out."""
