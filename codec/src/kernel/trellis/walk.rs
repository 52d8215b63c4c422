//! Four steps back through the trellis at once, by tables of sixteen bytes.

use super::{PREDECESSORS, STATES, SUBSETS};

/// Steps of a walk.
pub(super) const GROUP: usize = 4;
/// What is added to states, which stand in both bytes of a lane, in the upper.
pub(super) const UPPER: i16 = (STATES as i16) << 8;

/// What four steps back from a state, 0 to 7, lead through by four decisions.
struct Walk {
    before: u8,
    /// What, added to the point of the subset of each step, is 0 modulo 4, two bits each from the first on.
    subsets: u8,
}

const fn walk(state: usize, ways: usize) -> Walk {
    let (mut z, mut subsets, mut step) = (state, 0, GROUP);
    while step > 0 {
        step -= 1;
        let way = (SUBSETS[z][0] / 2 != ways >> step & 1) as usize;
        subsets |= ((4 - SUBSETS[z][way]) % 4) << (2 * step);
        z = PREDECESSORS[z][way];
    }
    Walk { before: z as u8, subsets: subsets as u8 }
}

// A walk is linear (a test says so): what the state alone and what the decisions alone give make it up. States stand
// in both bytes of a lane, in the upper one 8 more; decisions in the lower or in both.
/// The subsets: what states give.
pub(super) const SUBSETS_OF_STATES: [u8; 16] = {
    let (mut table, mut z) = ([0; 16], 0);
    while z < STATES {
        table[z] = walk(z, 0).subsets;
        z += 1;
    }
    table
};
/// The state before: what states give.
pub(super) const BEFORE_STATES: [u8; 16] = {
    let (mut table, mut z) = ([0; 16], 0);
    while z < STATES {
        table[z] = walk(z, 0).before;
        table[8 + z] = walk(z, 0).before | 8;
        z += 1;
    }
    table
};
/// What decisions give.
pub(super) const SUBSETS_OF_WAYS: [u8; 16] = {
    let (mut table, mut ways) = ([0; 16], 0);
    while ways < 16 {
        table[ways] = walk(0, ways).subsets;
        ways += 1;
    }
    table
};
/// What decisions give.
pub(super) const BEFORE_WAYS: [u8; 16] = {
    let (mut table, mut ways) = ([0; 16], 0);
    while ways < 16 {
        table[ways] = walk(0, ways).before;
        ways += 1;
    }
    table
};
/// What lifts the decisions of a state from among those of four to the highest bits: in the lower byte, then in the
/// upper.
pub(super) const TO_TOP: [u8; 16] = [0, 0, 16, 1, 0, 0, 16, 1, 16, 1, 0, 0, 16, 1, 0, 0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_back_is_linear() {
        for state in 0..STATES {
            for ways in 0..1 << GROUP {
                let (all, lone) = (walk(state, ways), [walk(state, 0), walk(0, ways)]);
                assert_eq!(all.before, lone[0].before ^ lone[1].before);
                assert_eq!(all.subsets, lone[0].subsets ^ lone[1].subsets);
            }
        }
    }
}
