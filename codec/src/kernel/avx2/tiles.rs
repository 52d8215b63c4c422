//! Values and bytes that change places with others of a few registers, for processors with AVX2.

use super::super::columns::TILE;
use super::super::shuffle::QUADS;
use std::arch::x86_64::*;

/// The places of the bytes of four elements, by plane and back: its own inverse.
#[inline(always)]
fn transposed_quads(v: __m256i) -> __m256i {
    // SAFETY: AVX2; called from the two below only.
    unsafe {
        let order = _mm256_setr_epi8(
            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, //
            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
        );
        _mm256_shuffle_epi8(v, order)
    }
}

/// The four numbers of 64 bits of four registers as a matrix, transposed.
#[inline(always)]
fn transposed_words([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    // SAFETY: AVX2; called from the two below only.
    unsafe {
        let (low_ab, high_ab) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
        let (low_cd, high_cd) = (_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
        [
            _mm256_permute2x128_si256::<0x20>(low_ab, low_cd),
            _mm256_permute2x128_si256::<0x20>(high_ab, high_cd),
            _mm256_permute2x128_si256::<0x31>(low_ab, low_cd),
            _mm256_permute2x128_si256::<0x31>(high_ab, high_cd),
        ]
    }
}

/// The bytes of elements of four, by plane. For processors with AVX2.
#[inline(always)]
pub(in super::super) fn split_quads(elements: &[[u8; 4]; QUADS]) -> [[u8; QUADS]; 4] {
    let mut planes = [[0; QUADS]; 4];
    // SAFETY: AVX2, called by operations of processors that have it only; four registers are what the
    // elements take, one is a plane.
    unsafe {
        let from: *const __m256i = elements.as_ptr().cast();
        // Of each eight elements: the eight bytes of a plane together.
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let mut rows = [_mm256_setzero_si256(); 4];
        for (i, row) in rows.iter_mut().enumerate() {
            let eight = _mm256_loadu_si256(from.add(i));
            *row = _mm256_permutevar8x32_epi32(transposed_quads(eight), order);
        }
        for (plane, bytes) in planes.iter_mut().zip(transposed_words(rows)) {
            _mm256_storeu_si256(plane.as_mut_ptr().cast(), bytes);
        }
    }
    planes
}

/// The inverse of [`split_quads`]; as it, for processors with AVX2.
#[inline(always)]
pub(in super::super) fn join_quads(planes: [&[u8; QUADS]; 4]) -> [[u8; 4]; QUADS] {
    let mut elements = [[0; 4]; QUADS];
    // SAFETY: as there.
    unsafe {
        let to: *mut __m256i = elements.as_mut_ptr().cast();
        let order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
        let mut rows = [_mm256_setzero_si256(); 4];
        for (row, plane) in rows.iter_mut().zip(planes) {
            *row = _mm256_loadu_si256(plane.as_ptr().cast());
        }
        for (i, row) in transposed_words(rows).into_iter().enumerate() {
            let eight = transposed_quads(_mm256_permutevar8x32_epi32(row, order));
            _mm256_storeu_si256(to.add(i), eight);
        }
    }
    elements
}

/// The first pairs of both, in each half, and the second ones.
#[inline(always)]
fn quads(low: __m256, high: __m256) -> [__m256; 2] {
    // SAFETY: AVX; called from below only.
    unsafe { [_mm256_shuffle_ps::<0x44>(low, high), _mm256_shuffle_ps::<0xEE>(low, high)] }
}

/// Transposes eight rows of eight values. For processors with AVX2.
#[inline(always)]
pub(in super::super) fn transpose(
    (from, apart): (&[f32], usize),
    (to, to_apart): (&mut [f32], usize),
) {
    // SAFETY: AVX2, called by operations of processors that have it only; each load and store is one of a
    // slice of eight values.
    unsafe {
        let mut rows = [_mm256_setzero_ps(); TILE];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = _mm256_loadu_ps(from[i * apart..][..TILE].as_ptr());
        }
        let [a, b, c, d, e, f, g, h] = rows;
        // Pairs of neighbours, then quads of them, then halves.
        let pairs = [
            _mm256_unpacklo_ps(a, b),
            _mm256_unpackhi_ps(a, b),
            _mm256_unpacklo_ps(c, d),
            _mm256_unpackhi_ps(c, d),
            _mm256_unpacklo_ps(e, f),
            _mm256_unpackhi_ps(e, f),
            _mm256_unpacklo_ps(g, h),
            _mm256_unpackhi_ps(g, h),
        ];
        let [a, b] = quads(pairs[0], pairs[2]);
        let [c, d] = quads(pairs[1], pairs[3]);
        let [e, f] = quads(pairs[4], pairs[6]);
        let [g, h] = quads(pairs[5], pairs[7]);
        let columns = [
            _mm256_permute2f128_ps::<0x20>(a, e),
            _mm256_permute2f128_ps::<0x20>(b, f),
            _mm256_permute2f128_ps::<0x20>(c, g),
            _mm256_permute2f128_ps::<0x20>(d, h),
            _mm256_permute2f128_ps::<0x31>(a, e),
            _mm256_permute2f128_ps::<0x31>(b, f),
            _mm256_permute2f128_ps::<0x31>(c, g),
            _mm256_permute2f128_ps::<0x31>(d, h),
        ];
        for (i, column) in columns.into_iter().enumerate() {
            _mm256_storeu_ps(to[i * to_apart..][..TILE].as_mut_ptr(), column);
        }
    }
}
