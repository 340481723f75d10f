//! The field against slow integers, in every lane, with different values in the lanes.

use super::super::reference::{Natural, Random, cases, edge_words, field_prime};
use super::field::{Fe, Loose};
use super::groups::Fes;
use super::lanes::Eight;
use super::limbs::LIMBS;
use super::power::{inverse, square_root_candidate};
use super::tests::with_ifma;

/// An element by its limbs, which may have arbitrary bits above bit 52 where a tight element may.
type Limbs = [u64; LIMBS];

const LOW_52: u64 = (1 << 52) - 1;
/// The largest limb 4 of a tight element.
const TOP: u64 = (1 << 48) + (1 << 12);

fn natural(limbs: &Limbs) -> Natural {
    (0..LIMBS).fold(Natural::from_u64(0), |sum, k| {
        let limb = if k == LIMBS - 1 { limbs[k] } else { limbs[k] & LOW_52 };
        sum.plus(&Natural::from_u64(limb).times(&Natural::power_of_two(52 * k)))
    })
}

fn limbs(words: &[u64; 4]) -> Limbs {
    let [a, b, c, d] = *words;
    [a & LOW_52, (a >> 52 | b << 12) & LOW_52, (b >> 40 | c << 24) & LOW_52, (c >> 28 | d << 36) & LOW_52, d >> 16]
}

/// Edge values in reduced form, as 256 bits and as the largest tight limbs, with and without junk above bit 52.
fn edges() -> Vec<Limbs> {
    let mut all: Vec<Limbs> = edge_words().iter().map(limbs).collect();
    for top in [0, 1, (1 << 48) - 1, 1 << 48, (1 << 48) + 1, TOP] {
        for low in [0, 1, LOW_52 - 1, LOW_52] {
            all.push([low, low, low, low, top]);
            all.push([low | 0xfff << 52, low | 1 << 52, low, low | 0xabc << 52, top]);
        }
    }
    all
}

fn random(generator: &mut Random, edges: &[Limbs], edge_words: &[[u64; 4]]) -> Limbs {
    match generator.next() % 4 {
        0 => edges[generator.next() as usize % edges.len()],
        1 => {
            let mut limbs: Limbs = std::array::from_fn(|_| generator.next());
            limbs[4] %= TOP + 1;
            limbs
        }
        _ => limbs(&generator.words(edge_words)),
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn load(lanes: &[Limbs; 8]) -> Fe {
    Fe::from_limbs(std::array::from_fn(|k| Eight(std::array::from_fn(|lane| lanes[lane][k])).load()))
}

/// The canonical value of each lane.
#[target_feature(enable = "avx512f,avx512ifma")]
fn read(fe: &Fe) -> [Natural; 8] {
    let words = fe.canonical().to_words().map(|word| Eight::store(word).0);
    std::array::from_fn(|lane| Natural::from_words(&std::array::from_fn::<u64, 4, _>(|i| words[i][lane])))
}

#[track_caller]
fn expect(
    what: &str,
    got: &[Natural; 8],
    a: &[Limbs; 8],
    b: &[Limbs; 8],
    want: impl Fn(&Natural, &Natural) -> Natural,
) {
    let p = field_prime();
    for lane in 0..8 {
        let want = want(&natural(&a[lane]).modulo(&p), &natural(&b[lane]).modulo(&p)).modulo(&p);
        assert_eq!(got[lane], want, "{what} in lane {lane} of {:x?} and {:x?}", a[lane], b[lane]);
    }
}

/// Every operation of `Fe`, `Loose` and `Wide` on eight pairs.
#[target_feature(enable = "avx512f,avx512ifma")]
fn check(a: &[Limbs; 8], b: &[Limbs; 8]) {
    let p = field_prime();
    let minus = |x: &Natural| p.minus(x);
    let (x, y) = (load(a), load(b));
    expect("value", &read(&x), a, b, |a, _| a.clone());
    expect("product", &read(&x.mul(&y)), a, b, |a, b| a.times(b));
    expect("square", &read(&x.square()), a, b, |a, _| a.times(a));
    expect("sum", &read(&x.loose().plus(y.loose()).carry()), a, b, |a, b| a.plus(b));
    expect("difference", &read(&x.loose().plus(y.negated()).carry()), a, b, |a, b| a.plus(&minus(b)));
    let sum: Loose = x.squared().doubled().plus_product(&x, &y).reduce();
    expect("2a² + ab", &read(&sum.carry()), a, b, |a, b| a.times(a).plus(&a.times(a)).plus(&a.times(b)));
    expect("-(2a² + ab)", &read(&sum.negated::<9>().carry()), a, b, |a, b| {
        minus(&a.times(&a.plus(a).plus(b)).modulo(&p))
    });
    let some = x.product(&y).reduce().negated_where::<8>(0b0101_0011).carry();
    for (lane, got) in read(&some).iter().enumerate() {
        let product = natural(&a[lane]).times(&natural(&b[lane])).modulo(&p);
        let want = if 0b0101_0011 >> lane & 1 == 1 { minus(&product).modulo(&p) } else { product };
        assert_eq!(*got, want, "conditional negation in lane {lane}");
    }
    let selected = read(&x.select(&y, 0b1010_0110));
    let (odd, zero, equal) = (x.is_odd(), x.is_zero(), x.equals(&y));
    let same = x.equals(&Fe::from_words(x.to_words()));
    assert_eq!(same, 0xff, "words keep the value");
    for lane in 0..8 {
        let (a, b) = (natural(&a[lane]).modulo(&p), natural(&b[lane]).modulo(&p));
        assert_eq!(odd >> lane & 1 == 1, a.is_odd(), "oddness in lane {lane}");
        assert_eq!(zero >> lane & 1 == 1, a == Natural::from_u64(0), "zero in lane {lane}");
        assert_eq!(equal >> lane & 1 == 1, a == b, "equality in lane {lane}");
        assert_eq!(selected[lane], if 0b1010_0110 >> lane & 1 == 1 { b } else { a }, "selection in lane {lane}");
    }
}

#[test]
fn operations_agree_with_slow_integers_on_all_pairs_of_edges_in_every_lane() {
    // SAFETY: `with_ifma` has detected the features.
    with_ifma(|| unsafe {
        let edges = edges();
        // Pairs (i, j) as i runs and j = i + shift; the lanes hold eight consecutive pairs, and each start puts a pair
        // into another lane.
        let stride = if cfg!(debug_assertions) { 67 } else { 1 };
        for shift in (0..edges.len()).step_by(stride) {
            for start in (0..edges.len()).step_by(if cfg!(debug_assertions) { 8 } else { 1 }) {
                let at = |i: usize| edges[i % edges.len()];
                check(
                    &std::array::from_fn(|lane| at(start + lane)),
                    &std::array::from_fn(|lane| at(start + lane + shift)),
                );
            }
        }
        for (i, edge) in edges.iter().enumerate() {
            check(&[*edge; 8], &[edges[(i * 7 + 3) % edges.len()]; 8]);
        }
    });
}

#[test]
fn operations_agree_with_slow_integers_on_random_values() {
    // SAFETY: `with_ifma` has detected the features.
    with_ifma(|| unsafe {
        let (edges, edge_words) = (edges(), edge_words());
        let mut generator = Random(1);
        for _ in 0..cases(800) / 8 {
            let mut lanes = || -> [Limbs; 8] { std::array::from_fn(|_| random(&mut generator, &edges, &edge_words)) };
            check(&lanes(), &lanes());
        }
    });
}

#[test]
fn inverses_and_roots_multiply_back() {
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn run<const N: usize>(generator: &mut Random) {
        let (edges, edge_words) = (edges(), edge_words());
        let lanes: [[Limbs; 8]; N] =
            std::array::from_fn(|_| std::array::from_fn(|_| random(generator, &edges, &edge_words)));
        let a: Fes<N> = lanes.map(|lanes| load(&lanes));
        let (inverses, squares) = (inverse(&a), a.map(|a| a.square()));
        let roots = square_root_candidate(&squares);
        for g in 0..N {
            let one = [Natural::from_u64(1); 1];
            for (lane, product) in read(&a[g].mul(&inverses[g])).into_iter().enumerate() {
                let zero = a[g].is_zero() >> lane & 1 == 1;
                assert_eq!(product, if zero { Natural::from_u64(0) } else { one[0].clone() }, "inverse in lane {lane}");
            }
            assert_eq!(roots[g].square().equals(&squares[g]), 0xff, "a square has a root");
        }
    }
    // SAFETY: `with_ifma` has detected the features.
    with_ifma(|| unsafe {
        let mut generator = Random(2);
        for _ in 0..cases(160) / 16 {
            run::<1>(&mut generator);
            run::<2>(&mut generator);
        }
    });
}
