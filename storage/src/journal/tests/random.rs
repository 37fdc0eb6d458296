//! Random use against a plain vector. A failing case is printed by proptest; no disk fails here.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Move {
    Append(Vec<u16>, bool),
    Wait,
    Reopen,
    Trim(u64),
    Read(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => (prop::collection::vec(0..3_000_u16, 1..5), any::<bool>())
            .prop_map(|(lengths, now)| Move::Append(lengths, now)),
        2 => Just(Move::Wait),
        1 => Just(Move::Reopen),
        1 => (0..100_u64).prop_map(Move::Trim),
        1 => (0..100_u64).prop_map(Move::Read),
    ];
    prop::collection::vec(one, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_vector(moves in moves()) {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = open(folder.path());
        let mut model: Vec<Vec<u8>> = Vec::new();
        for step in moves {
            match step {
                Move::Append(lengths, now) => {
                    let base = model.len();
                    let records: Vec<Vec<u8>> = lengths
                        .iter()
                        .enumerate()
                        .map(|(at, length)| vec![(base + at) as u8; usize::from(*length)])
                        .collect();
                    let slices: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
                    let urgency = if now { Urgency::Now } else { Urgency::Soon };
                    let batch = batch(1, 0, &slices);
                    let position = journal.append(batch, urgency, Box::new(drop)).unwrap();
                    model.extend(records);
                    prop_assert_eq!(position.0, model.len() as u64);
                }
                Move::Wait => journal.wait_durable(journal.appended()).unwrap(),
                Move::Reopen => {
                    drop(journal);
                    journal = open(folder.path());
                    prop_assert_eq!(journal.durable().0, model.len() as u64);
                }
                Move::Trim(percent) => {
                    let through = model.len() as u64 * percent / 100;
                    let before = journal.oldest().0;
                    journal.trim(Position(through)).unwrap();
                    prop_assert!(journal.oldest().0 <= before.max(through + 1));
                }
                Move::Read(percent) => {
                    journal.wait_durable(journal.appended()).unwrap();
                    let oldest = journal.oldest().0;
                    let kept = model.len() as u64 + 1 - oldest;
                    let after = oldest - 1 + kept * percent / 100;
                    let found = rest(&mut *journal.read(Position(after)).unwrap());
                    let expected: Vec<_> = (after + 1..)
                        .zip(model.iter().skip(after as usize).cloned())
                        .collect();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
