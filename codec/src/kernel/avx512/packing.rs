//! Packed codes on AVX-512.
#![expect(clippy::incompatible_msrv, reason = "build.rs leaves this module out before Rust 1.89")]

use super::super::avx2::packing::{joined_eights, store};
use std::arch::x86_64::*;

/// What [`Lanes::pack_four`](super::super::lanes::Lanes::pack_four) promises. For processors with AVX-512 F and
/// BW.
#[inline(always)]
pub(super) fn pack_four<const Q: u32>([a, b, c, d]: [__m512i; 4], out: &mut [u8]) {
    const { assert!(Q >= 1 && Q <= 8) };
    let out = &mut out[..8 * Q as usize + 16];
    // SAFETY: the features above, called by operations of processors that have them only; `out` has room for
    // 64 bytes where Q is 8, and for 32 where it is 4.
    unsafe {
        let rows = [_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d)];
        let largest = _mm512_set1_epi8(((1u32 << Q) - 1) as i8);
        // In each quarter a quad of each row.
        let bytes = _mm512_min_epu8(_mm512_packus_epi16(rows[0], rows[1]), largest);
        if Q == 4 {
            let pairs = pairs_of::<Q>(bytes);
            let order = _mm512_loadu_si512(PAIRED_QUADS.as_ptr().cast());
            let packed = _mm512_permutexvar_epi16(order, _mm512_packus_epi16(pairs, pairs));
            _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm512_castsi512_si256(packed));
            return;
        }
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let bytes = _mm512_permutexvar_epi32(order, bytes);
        if Q == 8 {
            _mm512_storeu_si512(out.as_mut_ptr().cast(), bytes);
            return;
        }
        let factors = _mm512_set1_epi32(1 | 1 << (16 + 2 * Q));
        let quads = _mm512_madd_epi16(pairs_of::<Q>(bytes), factors);
        // The lower quad of each eight moves up to the upper one, and both down.
        let above = 32 - 4 * Q;
        let beside = _mm512_sllv_epi32(quads, _mm512_set1_epi64(above.into()));
        let eights = _mm512_srl_epi64(beside, _mm_cvtsi32_si128(above as i32));
        let joined = const { joined_eights(Q as u8) };
        let joined = _mm512_broadcast_i32x4(_mm_loadu_si128(joined.as_ptr().cast()));
        let joined = _mm512_shuffle_epi8(eights, joined);
        let width = 2 * Q as usize;
        store(_mm512_castsi512_si128(joined), out);
        store(_mm512_extracti32x4_epi32::<1>(joined), &mut out[width..]);
        store(_mm512_extracti32x4_epi32::<2>(joined), &mut out[2 * width..]);
        store(_mm512_extracti32x4_epi32::<3>(joined), &mut out[3 * width..]);
    }
}

/// Two codes to 16 bits.
#[inline(always)]
fn pairs_of<const Q: u32>(bytes: __m512i) -> __m512i {
    // SAFETY: AVX-512; called from above only. Codes are factors with a sign, and below 128.
    unsafe { _mm512_maddubs_epi16(_mm512_set1_epi16(1 | 1 << (8 + Q)), bytes) }
}

/// Where two bytes of quad k, of rows of four quads, are, if each quarter holds those of a quad of each row
/// twice.
const PAIRED_QUADS: [u16; 32] = {
    let mut places = [0; 32];
    let mut k = 0;
    while k < 16 {
        places[k] = (8 * (k % 4) + k / 4) as u16;
        k += 1;
    }
    places
};
