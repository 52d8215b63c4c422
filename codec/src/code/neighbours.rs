//! Multiples coded in the light of their neighbours on a grid (FORMAT.md, section 7.7): of feature maps and
//! fields, where what stands to the left and above tells most of what is coming.

use super::bits::{Reader, Rests, Writer};
use super::classes::{Counts, TOKENS, Weights};
use super::frequencies::{put_slots, put_starts};
use super::room_for_words;
use crate::kernel::neighbours::{LAST_LEVEL, LEVELS, PARTS};
use crate::kernel::rans::{MIDDLE_MULTIPLE, SLACK};
use crate::kernel::{Kernel, Neighbours, Order, PLACES};
use crate::wire::bytes::{Cursor, put_varint};
use crate::{Error, Result};

/// Most tables.
pub(super) const TABLES: usize = 32;
/// Most edges between levels.
const EDGES: usize = 7;
/// No neighbour is further away.
pub(super) const FARTHEST: u64 = 1 << 20;

/// Which places share a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sharing {
    /// Neighbouring parts of what is expected are one, so many times over.
    pub(super) halvings: u8,
    /// Levels where a table ends, ascending.
    pub(super) edges: Vec<u8>,
}

impl Sharing {
    pub(super) fn n_tables(&self) -> usize {
        (PARTS >> self.halvings) * (self.edges.len() + 1)
    }

    /// The table of a place.
    pub(super) fn table(&self, place: usize) -> usize {
        let (part, level) = (place / LEVELS, place % LEVELS);
        let above = self.edges.iter().filter(|edge| usize::from(**edge) <= level).count();
        (part >> self.halvings) * (self.edges.len() + 1) + above
    }

    fn tables(&self) -> [u32; PLACES] {
        std::array::from_fn(|place| self.table(place) as u32)
    }
}

/// What stands before the words.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) neighbours: Neighbours,
    pub(super) sharing: Sharing,
}

impl Plan {
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        let Neighbours { lanes, across, down, weights, .. } = self.neighbours;
        out.push(lanes.ilog2() as u8);
        put_varint(out, across as u64);
        put_varint(out, down as u64);
        out.extend(weights.map(|weight| weight as u8));
        out.extend([self.sharing.halvings, self.sharing.edges.len() as u8]);
        out.extend_from_slice(&self.sharing.edges);
    }

    /// Of `n` multiples, and what stands behind it.
    pub(super) fn read(codes: &[u8], n: usize) -> Result<(Self, &[u8])> {
        let corrupt = |what: &str| Error::corrupt(format!("neighbours of a group: {what}"));
        let mut cursor = Cursor::new(codes);
        let lanes = 1 << cursor.u8("lanes")?.min(7);
        if lanes > super::lanes(n) {
            return Err(corrupt("more lanes than there may be"));
        }
        let (across, down) = (cursor.varint("distance")?, cursor.varint("distance")?);
        if !(1 <= across && across < down && down <= FARTHEST) {
            return Err(corrupt("a distance is out of range"));
        }
        let mut weights = [0; 4];
        for weight in &mut weights {
            *weight = cursor.u8("weight")? as i8;
        }
        let (halvings, n_edges) = (cursor.u8("parts")?, usize::from(cursor.u8("edges")?));
        if halvings > 3 || n_edges > EDGES {
            return Err(corrupt("parts or edges that are reserved"));
        }
        let edges = cursor.take(n_edges, "edges")?.to_vec();
        let ascend = edges.is_sorted_by(|a, b| a < b);
        let within = edges.iter().all(|edge| (1..=LAST_LEVEL).contains(edge));
        let sharing = Sharing { halvings, edges };
        if !(ascend && within && sharing.n_tables() <= TABLES) {
            return Err(corrupt("edges that do not ascend, or too many tables"));
        }
        let (across, down) = (across as usize, down as usize);
        let neighbours = Neighbours { lanes, rows: n / lanes, across, down, weights };
        Ok((Self { neighbours, sharing }, cursor.rest()))
    }
}

/// Appends what decodes to multiples, in rows of lanes: how far they are from what was expected, their places
/// with their tokens, and how often which token occurs under each table.
pub(super) fn put(
    kernel: Kernel,
    plan: &Plan,
    counts: &[Counts],
    (rests, placed): (&[f32], &[u32]),
    words: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    plan.write_to(out);
    let (mut bits, mut starts) = (Writer::default(), Vec::new());
    for counts in counts {
        let weights = weights(counts);
        weights.put(&mut bits);
        put_starts(&weights.frequencies(), &mut starts);
    }
    starts.resize(starts.len().next_power_of_two(), 0);
    let (words, lanes) = (room_for_words(words, rests.len()), plan.neighbours.lanes);
    let tables = plan.sharing.tables();
    let start = kernel.encode_placed(rests, &starts, (placed, &tables), lanes, words);
    out.extend_from_slice(&words[start..]);
    put_rests(kernel, rests, &mut bits);
    bits.finish(out);
}

/// Appends what tokens leave open of integers.
pub(super) fn put_rests(kernel: Kernel, integers: &[f32], bits: &mut Writer) {
    const SMALL: f32 = MIDDLE_MULTIPLE as f32;
    // Hardly any are large.
    let strips = integers.chunks(256).filter(|strip| kernel.peak_bits(strip) > SMALL.to_bits());
    let large = strips.flatten().filter(|integer| integer.abs() > SMALL);
    large.for_each(|integer| bits.put_rest(*integer as i32));
}

/// The weights of a table; one that nothing uses has the token of no difference.
pub(super) fn weights(counts: &Counts) -> Weights {
    let unused = || {
        let mut counts = [0; TOKENS];
        counts[MIDDLE_MULTIPLE as usize] = 1;
        Weights::of(&counts)
    };
    if counts.iter().all(|count| *count == 0) { unused() } else { Weights::of(counts) }
}

/// The multiples that codes behind a head stand for, to `out`; `rows` has room for as many. The largest
/// magnitude of them.
pub(super) fn get(
    kernel: Kernel,
    codes: &[u8],
    bytes: &mut Vec<u8>,
    rows: &mut [f32],
    out: &mut [f32],
) -> Result<f32> {
    let (Plan { neighbours, sharing }, codes) = Plan::read(codes, out.len())?;
    let mut bits = Reader::new(codes);
    let mut slots = Vec::new();
    for _ in 0..sharing.n_tables() {
        let weights = Weights::take(&mut bits)
            .ok_or_else(|| Error::corrupt("codes of a group: a table that no encoder writes"))?;
        put_slots(&weights.frequencies(), &mut slots);
    }
    slots.resize(slots.len().next_power_of_two(), 0);
    bytes.clear();
    bytes.extend_from_slice(codes);
    bytes.extend([0; SLACK]);
    let mut rests = Rests { bits };
    let tables = sharing.tables();
    let end = kernel.decode_placed(&slots, neighbours, &tables, bytes, &mut rests, rows);
    let end = end
        .ok_or_else(|| Error::corrupt("codes of a group: words of rANS that no encoder writes"))?;
    rests.bits.finish(end)?;
    let largest = f32::from_bits(kernel.peak_bits(rows));
    if largest > crate::kernel::neighbours::LARGEST {
        return Err(Error::corrupt("coefficient out of range"));
    }
    kernel.reorder(neighbours, Order::Values, rows, out);
    Ok(largest)
}
