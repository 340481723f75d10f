//! Points, tables and whole sums against libsecp256k1, lane by lane, with multipliers that no signature would cause.

use secp256k1::{PublicKey, Scalar, SecretKey};

use super::super::item::{Item, Verdict};
use super::super::reference::{Natural, Random, cases, group_order};
use super::super::scalar::{self, Signed, Words};
use super::field::Fe;
use super::generator;
use super::groups::{Fes, Mask, mul, square};
use super::lanes::Eight;
use super::lift::lift_all;
use super::point::{Affine, Jacobian, Signs};
use super::power::inverse;
use super::table::{Multiples, Multiplier, Row};
use super::{LANES, Signatures, load, put};
use crate::require::{self, Need};

/// LAMBDA·(x, y) = (BETA·x, y).
const LAMBDA: &str = "5363AD4CC05C30E0A5261C028812645A122E22EA20816678DF02967C1B23BD72";

/// Runs a test body on machines with AVX-512 IFMA.
pub(super) fn with_ifma(body: impl Fn()) {
    if require::has(Need::Avx512, super::available()) {
        body();
    }
}

fn bytes(words: &Words) -> [u8; 32] {
    let mut out = [0; 32];
    for (i, word) in words.iter().enumerate() {
        out[24 - 8 * i..32 - 8 * i].copy_from_slice(&word.to_be_bytes());
    }
    out
}

/// k·G by libsecp256k1; None for the point at infinity.
fn times_generator(k: &Natural) -> Option<PublicKey> {
    let k = k.modulo(&group_order());
    (k != Natural::from_u64(0))
        .then(|| PublicKey::from_secret_key(&SecretKey::from_secret_bytes(bytes(&k.words())).expect("in 1..n")))
}

/// k·point by libsecp256k1.
fn times(point: &PublicKey, k: &Natural) -> Option<PublicKey> {
    let k = k.modulo(&group_order());
    let scalar = Scalar::from_be_bytes(bytes(&k.words())).expect("below n");
    (k != Natural::from_u64(0)).then(|| point.mul_tweak(&scalar).expect("a multiple by 1..n is no infinity"))
}

fn sum(a: Option<PublicKey>, b: Option<PublicKey>) -> Option<PublicKey> {
    match (a, b) {
        (Some(a), Some(b)) => a.combine(&b).ok(),
        (a, b) => a.or(b),
    }
}

/// x and y.
fn row(point: &PublicKey) -> [u64; 8] {
    let bytes = point.serialize_uncompressed();
    let half = |at: usize| scalar::words(&bytes[at..at + 32].try_into().expect("32 bytes"));
    let (x, y) = (half(1), half(33));
    std::array::from_fn(|i| if i < 4 { x[i] } else { y[i - 4] })
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn affine<const N: usize>(points: &[[PublicKey; 8]; N]) -> Affine<N> {
    let rows: [[Row; 8]; N] = std::array::from_fn(|g| std::array::from_fn(|lane| Eight(row(&points[g][lane]))));
    Affine::from_rows(&std::array::from_fn(|g| rows[g].each_ref()))
}

/// The affine coordinates of each lane; zeros where Z = 0.
#[target_feature(enable = "avx512f,avx512ifma")]
fn rows<const N: usize>(point: &Jacobian<N>, scale: &Fes<N>) -> [[[u64; 8]; 8]; N] {
    let inverse = inverse(&mul(&point.z, scale));
    let squared = square(&inverse);
    let (x, y) = (mul(&point.x, &squared), mul(&point.y, &mul(&squared, &inverse)));
    let canonical = |fe: Fes<N>| fe.map(|fe| fe.canonical());
    let rows = Affine { x: canonical(x), y: canonical(y) }.to_rows();
    rows.map(|group| group.map(|row| row.0))
}

/// Between 1 and n - 1.
fn multiplier(generator: &mut Random) -> Natural {
    let [low, a, b, c] = generator.words(&[[1, 0, 0, 0]]);
    Natural::from_words(&[low | 1, a, b, c]).modulo(&group_order())
}

/// Points with known multipliers of G, different in each lane.
fn points<const N: usize>(generator: &mut Random) -> ([[Natural; 8]; N], [[PublicKey; 8]; N]) {
    let multipliers: [[Natural; 8]; N] = std::array::from_fn(|_| std::array::from_fn(|_| multiplier(generator)));
    let points = std::array::from_fn(|g| {
        std::array::from_fn(|lane| times_generator(&multipliers[g][lane]).expect("not a multiple of n"))
    });
    (multipliers, points)
}

#[test]
fn doubling_and_addition_agree_with_libsecp() {
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn run<const N: usize>(generator: &mut Random) {
        let ((_, p), (_, q)) = (points::<N>(generator), points::<N>(generator));
        let (p_lanes, q_lanes) = (affine(&p), affine(&q));
        let one = [Fe::one(); N];
        let mut point = Jacobian { x: p_lanes.x, y: p_lanes.y, z: one };
        let subtract = Mask([0b0110_1001; N]);
        // 4P ± Q, so that neither Z nor the magnitudes are the initial ones.
        point.double();
        point.double();
        point.add(&q_lanes, &Signs { negative: subtract, nonzero: Mask([0b1011_1110; N]) }, None);
        let got = rows(&point, &one);
        for g in 0..N {
            for lane in 0..8 {
                let four = times(&p[g][lane], &Natural::from_u64(4)).expect("not infinity");
                let other = if subtract.0[g] >> lane & 1 == 1 { q[g][lane].negate() } else { q[g][lane] };
                let sum = four.combine(&other).expect("not infinity");
                assert_eq!(
                    got[g][lane],
                    row(if 0b1011_1110 >> lane & 1 == 1 { &sum } else { &four }),
                    "4P ± Q in group {g}, lane {lane}"
                );
            }
        }
    }
    // SAFETY: `with_ifma` has detected the features.
    with_ifma(|| unsafe {
        let mut generator = Random(3);
        for _ in 0..cases(320) / 16 {
            run::<1>(&mut generator);
            run::<2>(&mut generator);
        }
    });
}

#[test]
fn adding_a_point_to_itself_or_its_negative_leaves_z_zero_for_good() {
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn run() {
        let (_, p) = points::<1>(&mut Random(4));
        let (_, q) = points::<1>(&mut Random(5));
        let (p, q) = (affine(&p), affine(&q));
        let all = |negative| Signs { negative: Mask([negative]), nonzero: Mask::ALL };
        for subtract in [0x00, 0xff, 0x3c] {
            let mut point = Jacobian { x: p.x, y: p.y, z: [Fe::one()] };
            point.add(&p, &all(subtract), None);
            for _ in 0..3 {
                assert_eq!(point.z[0].is_zero(), 0xff);
                point.add(&q, &all(0x0f), None);
                assert_eq!(point.z[0].is_zero(), 0xff);
                point.double();
            }
        }
    }
    // SAFETY: `with_ifma` has detected the features.
    with_ifma(|| unsafe { run() });
}

#[test]
fn every_row_of_the_generator_table_is_its_multiple() {
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn run() {
        let table = generator::table();
        let (low, high) = table.rows();
        for (rows, bit) in [(low, 0), (high, generator::HIGH_BIT)] {
            let base = times_generator(&Natural::power_of_two(bit)).expect("not infinity");
            let mut multiple = base;
            assert_eq!(rows.len(), 1 << (generator::WIDTH - 1));
            for (i, got) in rows.iter().enumerate() {
                assert_eq!(got.0, row(&multiple), "row {i} at bit {bit}");
                multiple = multiple.combine(&base).expect("a small multiple of a base is no infinity");
            }
        }
    }
    // SAFETY: `with_ifma` has detected the features.
    with_ifma(|| unsafe { run() });
}

#[test]
fn every_row_of_a_key_s_table_is_its_multiple() {
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn run() {
        let (_, p) = points::<2>(&mut Random(6));
        let multiples = Multiples::new(&affine(&p));
        for j in 1..=16 {
            let lanes = multiples.row(j);
            let affine = Affine::<2>::from_rows(&std::array::from_fn(|g| lanes[g].each_ref()));
            let got = rows(&Jacobian { x: affine.x, y: affine.y, z: [Fe::one(); 2] }, &multiples.z);
            for g in 0..2 {
                for lane in 0..8 {
                    let want = times(&p[g][lane], &Natural::from_u64(j as u64)).expect("not infinity");
                    assert_eq!(got[g][lane], row(&want), "{j}·P in group {g}, lane {lane}");
                }
            }
        }
    }
    // SAFETY: `with_ifma` has detected the features.
    with_ifma(|| unsafe { run() });
}

#[test]
fn digits_add_up_to_the_multiplier() {
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn run(k: &Words) {
        let mut s = Multiplier::<1, 4>::ZERO;
        put(&mut s.0[0], 3, k);
        let split = scalar::split(&scalar::reduced(k));
        let mut plain = Multiplier::<1, 3>::ZERO;
        put(&mut plain.0[0], 3, &split.plain);
        // Sum of the digits from the top down, modulo 2^320 to leave room for the sign.
        let horner = |width: usize, steps: usize, digit: &dyn Fn(usize) -> (u64, bool)| {
            (0..steps).rev().fold(Natural::from_u64(0), |sum, i| {
                let (magnitude, negative) = digit(i * width);
                let shifted = sum.times(&Natural::power_of_two(width));
                let term = Natural::from_u64(magnitude);
                let term = if negative { Natural::power_of_two(320).minus(&term) } else { term };
                assert!(magnitude <= 1 << (width - 1), "a digit is too large");
                shifted.plus(&term).modulo(&Natural::power_of_two(320))
            })
        };
        let read = |digit: super::table::Digit<1>| {
            let bit = |mask: Mask<1>| mask.0[0] >> 3 & 1 == 1;
            (
                if bit(digit.signs.nonzero) { digit.row[0].0[3] + 1 } else { 0 },
                bit(digit.signs.negative) && bit(digit.signs.nonzero),
            )
        };
        let all = horner(generator::WIDTH, 2 * generator::STEPS, &|bit| read(s.digit(bit, generator::WIDTH)));
        assert_eq!(all, Natural::from_words(k), "digits of {k:x?}");
        let half = horner(super::table::WIDTH, super::TOP_BIT / super::table::WIDTH + 1, &|bit| {
            read(plain.digit(bit, super::table::WIDTH))
        });
        let extended = Natural::from_words(&split.plain);
        let sign = if split.plain[2] == 0 {
            Natural::from_u64(0)
        } else {
            Natural::power_of_two(320).minus(&Natural::power_of_two(192))
        };
        assert_eq!(half, extended.plus(&sign), "digits of {:x?}", split.plain);
    }
    // SAFETY: `with_ifma` has detected the features.
    with_ifma(|| unsafe {
        let edges = super::super::reference::edge_words();
        let mut generator = Random(7);
        for k in &edges {
            run(k);
        }
        for _ in 0..cases(300) {
            run(&generator.words(&edges));
        }
    });
}

/// One lane of a sum s·G + plain·P + lambda·λP with P = key·G.
struct Case {
    key: Natural,
    s: Natural,
    plain: i128,
    lambda: i128,
}

fn signed(x: i128) -> Signed {
    let x2 = x.cast_unsigned();
    [x2 as u64, (x2 >> 64) as u64, if x < 0 { u64::MAX } else { 0 }]
}

/// x modulo n.
fn modulo(x: i128) -> Natural {
    let magnitude = Natural::from_words(&[x.unsigned_abs() as u64, (x.unsigned_abs() >> 64) as u64]);
    if x < 0 { group_order().minus(&magnitude) } else { magnitude }
}

/// Sums of eight cases, each lane compared; returns how many lanes had Z = 0.
#[target_feature(enable = "avx512f,avx512ifma")]
fn check_sums(cases: &[Case; 8]) -> usize {
    let zero = [[Eight::ZERO; 4]; 1];
    let (mut s, mut plain, mut lambda) = (Multiplier::ZERO, Multiplier::ZERO, Multiplier::ZERO);
    let mut x = zero;
    let mut want = [None; 8];
    for (lane, case) in cases.iter().enumerate() {
        // The engine lifts x to the even y, so use the multiplier of that point.
        let (public, _) = times_generator(&case.key).expect("a key is not 0").x_only_public_key();
        let point = PublicKey::from_x_only_public_key(public, secp256k1::Parity::Even);
        put(&mut x[0], lane, &scalar::words(&public.to_byte_array()));
        put(&mut s.0[0], lane, &case.s.words());
        put::<3>(&mut plain.0[0], lane, &signed(case.plain));
        put::<3>(&mut lambda.0[0], lane, &signed(case.lambda));
        let multiplier = modulo(case.plain).plus(&modulo(case.lambda).times(&Natural::from_hex(LAMBDA)));
        want[lane] = sum(times_generator(&case.s), times(&point, &multiplier));
    }
    let signatures = Signatures::<1> { x, r: zero, s, plain, lambda, rejected: Mask::NONE, undecided: Mask::NONE };
    let keys = lift_all(&load(&x));
    let sums = signatures.sum(&[keys[0]]);
    assert_eq!(sums.rejected, Mask::NONE, "every key is on the curve");
    let nothing = sums.point.z[0].is_zero() | sums.undecided.0[0];
    let got = rows(&sums.point, &[Fe::one()]);
    let mut undecided = 0;
    for lane in 0..LANES {
        if nothing >> lane & 1 == 1 {
            undecided += 1;
        } else {
            assert_eq!(
                Some(got[0][lane]),
                want[lane].as_ref().map(row),
                "lane {lane}: s {:?}, {} + {}·λ",
                cases[lane].s,
                cases[lane].plain,
                cases[lane].lambda
            );
        }
    }
    undecided
}

#[test]
fn sums_with_small_and_large_multipliers_agree_with_libsecp_or_are_undecided() {
    // SAFETY: `with_ifma` has detected the features.
    with_ifma(|| unsafe {
        let mut generator = Random(8);
        let edges: Vec<i128> = [0, 1, 2, 15, 16, 17, 31, 32, 33, 1 << 64, (1 << 120) + 1, i128::MAX - 1, i128::MAX]
            .into_iter()
            .flat_map(|x: i128| [x, -x])
            .collect();
        let s_edges = [0, 1, 2, 16, 17, 2047, 2048, 2049, 4096];
        let mut undecided = 0;
        for _ in 0..cases(160) / 8 {
            let batch = std::array::from_fn(|_| {
                let [plain, lambda] = std::array::from_fn(|_| match generator.next() % 2 {
                    0 => edges[generator.next() as usize % edges.len()],
                    _ => (i128::from(generator.next().cast_signed()) << 62) ^ i128::from(generator.next()),
                });
                let s = match generator.next() % 3 {
                    0 => Natural::from_u64(s_edges[generator.next() as usize % s_edges.len()]),
                    1 => Natural::power_of_two(generator.next() as usize % 255),
                    _ => multiplier(&mut generator),
                };
                let key = match generator.next() % 3 {
                    0 => Natural::from_u64(1 + generator.next() % 3),
                    1 => group_order().minus(&Natural::from_u64(1 + generator.next() % 3)),
                    _ => multiplier(&mut generator),
                };
                Case { key, s, plain, lambda }
            });
            undecided += check_sums(&batch);
        }
        eprintln!("{undecided} lanes were undecided");
    });
}

#[test]
fn crafted_exceptional_additions_are_undecided() {
    let case = |key: u64, s: Natural, plain: i128, lambda: i128| Case { key: Natural::from_u64(key), s, plain, lambda };
    let small = Natural::from_u64;
    let from_top = |x: i128| modulo(x);
    // SAFETY: `with_ifma` has detected the features.
    with_ifma(|| unsafe {
        // The key is G: the sum equals the row of G that is added, or its negative, or is empty.
        let exceptional = [
            case(1, small(1), 1, 0),
            case(1, small(1), -1, 0),
            case(1, small(16), 16, 0),
            case(1, from_top(-5), 5, 0),
            case(1, Natural::power_of_two(120), 1 << 120, 0),
            case(1, Natural::power_of_two(60), -(1 << 60), 0),
            case(7, small(0), 0, 0),
            case(2, small(2), -1, 0),
        ];
        assert_eq!(check_sums(&exceptional), 8);
        // With a key that is not a small multiple of G, the same multipliers are ordinary.
        let ordinary = std::array::from_fn(|lane| {
            let Case { s, plain, lambda, .. } = &exceptional[lane];
            Case {
                key: Natural::from_hex("123456789ABCDEF0123456789ABCDEF"),
                s: s.plus(&Natural::from_u64(u64::from(lane == 6))),
                plain: *plain,
                lambda: *lambda,
            }
        });
        assert_eq!(check_sums(&ordinary), 0);
    });
}

#[test]
fn a_batch_of_any_length_gets_a_verdict_for_each_item() {
    with_ifma(|| {
        let keypair = secp256k1::Keypair::from_secret_bytes([7; 32]).expect("a valid key");
        let pubkey = keypair.x_only_public_key().0.to_byte_array();
        let ids: Vec<[u8; 32]> = (0..70).map(|i| [i; 32]).collect();
        let signatures: Vec<[u8; 64]> =
            ids.iter().map(|id| secp256k1::schnorr::sign_no_aux_rand(id, &keypair).to_byte_array()).collect();
        let other = [0xee; 64];
        for count in [0, 1, 2, 7, 8, 9, 15, 16, 17, 24, 25, 33, 63, 64, 65, 70] {
            // Every third signature is bad.
            let items: Vec<Item<'_>> = (0..count)
                .map(|i| Item {
                    id: &ids[i],
                    pubkey: &pubkey,
                    signature: if i % 3 == 2 { &other } else { &signatures[i] },
                })
                .collect();
            let want: Vec<Verdict> =
                (0..count).map(|i| if i % 3 == 2 { Verdict::Reject } else { Verdict::Accept }).collect();
            let mut verdicts = vec![Verdict::Undecided; count];
            super::verify(&items, &mut verdicts);
            assert_eq!(verdicts, want, "{count} items");
        }
    });
}
