"""Files of compressed networks: codes that are optimal and unique, gaps at their limits, codebooks, every bit of the file."""

import heapq
import itertools
import struct
import zlib

import numpy as np
import pytest

from cnnlab.compressed import codebook, container, gaps, huffman
from cnnlab.compressed.container import Shared, read, write
from cnnlab.errors import DamagedFile


def plain_huffman(counts):
    """The total bits of a Huffman code without a bound on its words, by the textbook's heap."""
    heap = [count for count in counts if count > 0]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        total += joined
        heapq.heappush(heap, joined)
    return total


def best_bounded(counts, longest):
    """The total bits of the best prefix code with words of at most so many bits, by trying all lengths that a code can have."""
    used = [count for count in counts if count > 0]
    fits = (
        lengths
        for lengths in itertools.product(range(1, longest + 1), repeat=len(used))
        if sum(2.0**-each for each in lengths) <= 1
    )
    return min(int(np.dot(lengths, used)) for lengths in fits)


@pytest.mark.parametrize("seed", range(8))
def test_codes_are_those_of_huffman_where_no_word_is_too_long(seed):
    random = np.random.default_rng(seed)
    counts = random.integers(0, 50, random.integers(2, 60))
    lengths = huffman.code_lengths(counts)
    assert (lengths > 0).tolist() == (counts > 0).tolist()
    assert np.sum(np.exp2(-lengths[lengths > 0].astype(float))) == 1, "Kraft's sum: no word is wasted"
    assert int(np.dot(lengths, counts)) == plain_huffman(counts)
    share = counts / counts.sum()
    assert gaps.entropy(counts) <= np.dot(lengths, share) < gaps.entropy(counts) + 1


def test_bounded_codes_are_the_best_ones():
    counts = [1, 1, 2, 3, 5, 8]  # without a bound the words have up to five bits
    assert huffman.code_lengths(counts, 5).max() == 5
    for longest in (3, 4):
        lengths = huffman.code_lengths(counts, longest)
        assert lengths.max() <= longest and int(np.dot(lengths, counts)) == best_bounded(counts, longest)
    fibonacci = [1, 1]
    while len(fibonacci) < 24:
        fibonacci.append(sum(fibonacci[-2:]))
    assert huffman.code_lengths(fibonacci).max() == huffman.LONGEST
    with pytest.raises(ValueError, match="have no words of 2 bits"):
        huffman.code_lengths([1] * 5, 2)


def test_words_are_numbered_by_length_and_symbol_and_none_begins_another():
    lengths = np.array([2, 1, 3, 0, 3], np.uint8)
    assert huffman.words(lengths).tolist() == [0b10, 0b0, 0b110, 0, 0b111]
    assert huffman.encode(np.array([1, 0, 2, 4]), lengths) == bytes([0b01011011, 0b10000000])


@pytest.mark.parametrize("counts", [[7], [0, 3, 0], [5, 1], [1, 2, 4, 8, 16, 1000]], ids=str)
def test_symbols_come_back(counts):
    symbols = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    lengths = huffman.code_lengths(counts)
    data = huffman.encode(symbols, lengths)
    assert len(data) == -(-int(np.dot(lengths, counts)) // 8)
    assert huffman.decode(data, lengths, len(symbols)).tolist() == symbols.tolist()
    for wrong in (data[:-1], data + b"\0"):
        with pytest.raises(ValueError, match="bit"):
            huffman.decode(wrong, lengths, len(symbols))


def test_no_symbols_are_no_bytes():
    lengths = huffman.code_lengths([0, 0])
    assert huffman.encode(np.zeros(0, int), lengths) == b"" and not len(huffman.decode(b"", lengths, 0))


def test_lengths_of_no_code_are_refused():
    with pytest.raises(ValueError, match="of no code"):
        huffman.decode(b"\0", np.array([1, 1, 1], np.uint8), 3)


@pytest.mark.parametrize("bits", (1, 4, 5, 8))
def test_gaps_at_their_limit_and_one_beside_it(bits):
    reach = 2**bits
    for distance, fillers in ((reach - 1, 0), (reach, 0), (reach + 1, 1), (2 * reach, 1), (2 * reach + 1, 2)):
        positions = np.array([3, 3 + distance, 4 + distance])
        found, is_filler = gaps.to_gaps(positions, bits)
        first = 3 // reach
        assert is_filler.sum() == fillers + first and found.max() <= reach - 1
        assert gaps.to_positions(found)[~is_filler].tolist() == positions.tolist()


def test_the_number_of_bits_is_that_of_the_least_bytes():
    positions = np.flatnonzero(np.random.default_rng(0).random(30_000) < 0.08)
    sizes = {}
    for bits in range(1, 9):
        found, _ = gaps.to_gaps(positions, bits)
        sizes[bits] = len(found) * (gaps.entropy(np.bincount(found)) + 5) + 4 * 2**bits
    assert gaps.best_bits(positions, 5.0) == min(sizes, key=sizes.get) in (5, 6)


@pytest.mark.parametrize("start", codebook.STARTS)
def test_a_codebook_is_a_fixed_point_of_lloyds_algorithm(start):
    values = np.random.default_rng(1).normal(size=500).astype(np.float32)
    centres, codes = codebook.cluster(values, 16, start=codebook.STARTS[start])
    assert np.all(np.diff(centres) > 0) and codes.tolist() == np.abs(values[:, None] - centres).argmin(1).tolist()
    means = [values[codes == each].astype(float).mean() for each in range(len(centres))]
    np.testing.assert_allclose(centres, means, rtol=1e-6)


@pytest.mark.slow  # most of its time is scikit-learn's import
@pytest.mark.parametrize("start", codebook.STARTS)
@pytest.mark.parametrize("count", (4, 16))
def test_a_codebook_is_that_of_scikit_learn_from_the_same_first_centres(start, count):
    from sklearn.cluster import KMeans

    values = np.random.default_rng(2).uniform(-1, 1, 600).astype(np.float32)
    first = codebook.STARTS[start](np.sort(values.astype(float)), count, np.random.default_rng(0))
    theirs = KMeans(count, init=first[:, None], n_init=1, tol=0.0, max_iter=codebook.MOST_ITERATIONS, algorithm="lloyd")
    found = theirs.fit(values.astype(float)[:, None])  # [600] -> [600, 1], points of one coordinate
    centres, codes = codebook.cluster(values, count, start=codebook.STARTS[start], seed=0)
    np.testing.assert_allclose(centres, found.cluster_centers_[:, 0], rtol=1e-5, atol=1e-6)
    assert np.mean(codes == found.labels_) > 0.99, "but for values in the middle of two centres"


def test_few_values_are_their_own_codebook():
    values = np.array([0.5, -1.0, 0.5, 2.0], np.float32)
    centres, codes = codebook.cluster(values, 8)
    assert centres.tolist() == [-1.0, 0.5, 2.0] and centres[codes].tolist() == values.tolist()
    assert [len(each) for each in codebook.cluster(np.zeros(0, np.float32), 4)] == [0, 0]


def sparse(shape, density, values, seed=0):
    random = np.random.default_rng(seed)
    positions = np.flatnonzero(random.random(int(np.prod(shape))) < density)
    book = np.sort(random.normal(size=values)).astype(np.float32)
    return Shared(shape, book, random.integers(0, values, len(positions)).astype(np.int32), positions)


ARRAYS = {
    "params/layer1/kernel": sparse((40, 30), 0.08, 31),
    "params/layer1/bias": np.linspace(-1, 1, 30, dtype=np.float32),
    "params/layer2/kernel": Shared((3, 4), np.float32([0.5, -0.25]), np.arange(12, dtype=np.int32) % 2),
    "params/empty": sparse((5, 5), 0.0, 3),
    "state/steps": np.array([3, 2**31], np.uint32),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.cnnz"


def test_what_is_written_is_read_bit_for_bit_and_every_byte_is_counted(path):
    sizes = write(path, ARRAYS, {"experiment": "lenet5", "knobs": {"lr": 0.1}})
    arrays, meta = read(path)
    assert meta == {"experiment": "lenet5", "knobs": {"lr": 0.1}} and list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        found = arrays[name]
        one, other = (each.dense() if isinstance(each, Shared) else each for each in (array, found))
        assert one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    content = path.read_bytes()
    length = container.PREFIX.unpack_from(content)[2]
    assert len(content) == container.PREFIX.size + length + sum(size.total for size in sizes.values()) + container.DIGEST_BYTES
    size = sizes["params/layer1/kernel"]
    assert size.kept == len(ARRAYS["params/layer1/kernel"].codes) <= size.entries
    assert size.entries * size.code_entropy <= 8 * size.codes < size.entries * (size.code_entropy + 1) + 8
    assert size.entries * size.gap_entropy <= 8 * size.gaps < size.entries * (size.gap_entropy + 1) + 8


def test_a_pruned_kernel_takes_less_than_zlib_makes_of_its_numbers(path):
    array = sparse((300, 100), 0.08, 31)
    size = sum(each.total for each in write(path, {"kernel": array}, {}).values())
    assert size < 0.8 * len(zlib.compress(array.dense().tobytes(), 9))


def test_a_flipped_bit_anywhere_is_noticed(path):
    write(path, ARRAYS, {})
    content = path.read_bytes()
    for bit in range(0, 8 * len(content), 7):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedFile):
            read(path)
    for cut in (0, 5, 30, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(DamagedFile, match="is damaged"):
            read(path)


def forged(path, change):
    """Rewrites the header of a file by `change`, with a digest that fits."""
    content = path.read_bytes()
    _, _, length = container.PREFIX.unpack_from(content)
    end = container.PREFIX.size + length
    header = change(zlib.decompress(content[container.PREFIX.size : end]))
    header = header if isinstance(header, bytes) else header.encode()
    packed = zlib.compress(header)
    whole = (
        container.PREFIX.pack(container.MAGIC, container.VERSION, len(packed)) + packed + content[end : -container.DIGEST_BYTES]
    )
    path.write_bytes(whole + container._digest(whole))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"shape":[40,30]', b'"shape":[400000,300000]', "no array has the shape"),
        (b'"shape":[40,30]', b'"shape":[4,3]', "do not fit together|beyond its end"),
        (b'"shape":[40,30]', b'"shape":[-1,30]', "no array has the shape|do not fit"),
        (b'"entries":', b'"entries":1', "."),
        (b'"values":31', b'"values":30', "do not fit together"),
        (b'"dtype":"float32"', b'"dtype":"object"', "are not read"),
        (b'"arrays"', b'"others"', "arrays"),
        (b'"gap_bits"', b'"gap_kits"', "."),
        (b"{", b"[", "."),
    ],
    ids=str,
)
def test_hostile_files_with_a_digest_that_fits_are_refused_in_one_line(path, old, new, reason):
    write(path, ARRAYS, {})
    forged(path, lambda header: header.replace(old, new, 1))
    with pytest.raises(DamagedFile, match=reason) as error:
        read(path)
    assert len(str(error.value).splitlines()) == 2  # what is wrong, and what to do


def test_a_header_that_would_fill_the_memory_is_not_unpacked(path, monkeypatch):
    write(path, ARRAYS, {"padding": "x" * 100_000})
    monkeypatch.setattr(container, "LARGEST_HEADER", 50_000)
    with pytest.raises(DamagedFile, match="cut off or too long"):
        read(path)


def test_another_format_is_named(path):
    path.write_bytes(b"PK\3\4" + bytes(60))
    with pytest.raises(DamagedFile, match="does not begin as"):
        read(path)
    path.write_bytes(struct.pack("<4sBI", container.MAGIC, 9, 0) + bytes(60))
    with pytest.raises(DamagedFile, match="version 9"):
        read(path)
