//! Packed codes, for processors with AVX2.

use super::super::lanes::{byte_of, shift_of};
use std::arch::x86_64::*;

/// What [`Lanes::pack_four`](super::super::lanes::Lanes::pack_four) promises. For processors with AVX2.
#[inline(always)]
pub(super) fn pack_four<const Q: u32>(codes: [[__m256i; 2]; 4], out: &mut [u8]) {
    const { assert!(Q >= 1 && Q <= 8) };
    let out = &mut out[..8 * Q as usize + 16];
    let [a, b, c, d] = codes;
    let bytes = [bytes_of::<Q>(a, b), bytes_of::<Q>(c, d)];
    // SAFETY: AVX2, called by operations of processors that have it only.
    unsafe {
        if Q == 4 {
            let pairs = bytes.map(pairs_of::<Q>);
            let [low, high] = halves(_mm256_packus_epi16(pairs[0], pairs[1]));
            store(_mm_unpacklo_epi16(low, high), out);
            store(_mm_unpackhi_epi16(low, high), &mut out[16..]);
            return;
        }
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        for (bytes, at) in bytes.into_iter().zip([0, 4 * Q as usize]) {
            let bytes = _mm256_permutevar8x32_epi32(bytes, order);
            let sixteens = if Q == 8 { bytes } else { sixteens_of::<Q>(bytes) };
            let [low, high] = halves(sixteens);
            store(low, &mut out[at..]);
            store(high, &mut out[at + 2 * Q as usize..]);
        }
    }
}

/// Codes of a byte each, sixteen of which to the first 2 Q bytes of each half.
#[inline(always)]
fn sixteens_of<const Q: u32>(bytes: __m256i) -> __m256i {
    // SAFETY: AVX2; called from above only.
    unsafe {
        let factors = _mm256_set1_epi32(1 | 1 << (16 + 2 * Q));
        let quads = _mm256_madd_epi16(pairs_of::<Q>(bytes), factors);
        // The lower quad of each eight moves up to the upper one, and both down.
        let above = 32 - 4 * Q;
        let beside = _mm256_sllv_epi32(quads, _mm256_set1_epi64x(above.into()));
        let eights = _mm256_srl_epi64(beside, _mm_cvtsi32_si128(above as i32));
        let places = const { joined_eights(Q as u8) };
        let places = _mm256_broadcastsi128_si256(_mm_loadu_si128(places.as_ptr().cast()));
        _mm256_shuffle_epi8(eights, places)
    }
}

/// Codes of two rows of sixteen, a byte each, in quads that take turns: the first four, those from the eighth
/// on, and so on, then those from the fourth on. None is above the largest of Q bits.
#[inline(always)]
fn bytes_of<const Q: u32>(a: [__m256i; 2], b: [__m256i; 2]) -> __m256i {
    // SAFETY: AVX2; called from above only.
    unsafe {
        let rows = [_mm256_packus_epi32(a[0], a[1]), _mm256_packus_epi32(b[0], b[1])];
        let bytes = _mm256_packus_epi16(rows[0], rows[1]);
        _mm256_min_epu8(bytes, _mm256_set1_epi8(((1u32 << Q) - 1) as i8))
    }
}

/// Two codes to 16 bits.
#[inline(always)]
fn pairs_of<const Q: u32>(bytes: __m256i) -> __m256i {
    // SAFETY: AVX2; called from above only. Codes are factors with a sign, and below 128.
    unsafe { _mm256_maddubs_epi16(_mm256_set1_epi16(1 | 1 << (8 + Q)), bytes) }
}

#[inline(always)]
fn halves(v: __m256i) -> [__m128i; 2] {
    // SAFETY: AVX2; called from above only.
    unsafe { [_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v)] }
}

#[inline(always)]
pub(in super::super) fn store(v: __m128i, out: &mut [u8]) {
    let out: &mut [u8] = &mut out[..16];
    // SAFETY: SSE2; sixteen bytes to a slice of sixteen.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), v) }
}

/// Of two numbers of 64 bits the first `q` bytes of both, one behind the other.
pub(in super::super) const fn joined_eights(q: u8) -> [u8; 16] {
    let mut places = [0x80; 16];
    let mut i = 0;
    while i < 2 * q {
        places[i as usize] = if i < q { i } else { 8 + i - q };
        i += 1;
    }
    places
}

/// For each of eight lanes the places of the four bytes that its code begins in.
pub(in super::super) const fn bytes_of_codes(q: u32) -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 32 {
        bytes[i as usize] = (byte_of(q, i / 4) + i % 4) as u8;
        i += 1;
    }
    bytes
}

/// For each of eight lanes how far its code is above the lowest bit of them.
pub(in super::super) const fn shifts_of_codes(q: u32) -> [u32; 8] {
    let mut shifts = [0; 8];
    let mut i = 0;
    while i < 8 {
        shifts[i as usize] = shift_of(q, i);
        i += 1;
    }
    shifts
}
