use proptest::prelude::*;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::PrivateKey;

/// Made by a Go program with crypto/ed25519; the recipe is in the file.
const VECTORS: &str = include_str!("../../../../tests/fixtures/vectors/signatures.toml");

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Vectors {
    signed: Vec<Signed>,
    vector: Vec<Vector>,
}

#[derive(Deserialize)]
struct Signed {
    private: String,
    public: String,
    file: String,
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Vector {
    name: String,
    file: String,
    key: String,
    signature: String,
    go_accepts: bool,
}

fn vectors() -> Vectors {
    toml::from_str(VECTORS).unwrap()
}

fn hash(file: &str) -> FileHash {
    Sha256::digest(file).into()
}

#[test]
fn what_go_signs_we_sign_the_same() {
    for signed in vectors().signed {
        let key = PrivateKey::parse(signed.private.as_bytes()).unwrap();
        assert_eq!(key.public_key().to_string(), signed.public);
        let signature = key.sign(&hash(&signed.file));
        assert_eq!(signature.to_string(), signed.signature);
        let public: PublicKey = signed.public.parse().unwrap();
        assert!(public.verifies(&hash(&signed.file), &signature));
    }
}

#[test]
fn only_what_a_strict_verifier_takes_is_taken() {
    let mut taken_by_go_alone = 0;
    for vector in vectors().vector {
        let signature = Signature::parse(vector.signature.as_bytes()).unwrap();
        let is_taken = vector
            .key
            .parse::<PublicKey>()
            .is_ok_and(|key| key.verifies(&hash(&vector.file), &signature));
        assert_eq!(is_taken, vector.name == "good", "{}", vector.name);
        taken_by_go_alone += u32::from(vector.go_accepts && !is_taken);
    }
    // Keys of small order: the vectors are what they are said to be, and not refused by accident.
    assert!(taken_by_go_alone >= 6, "{taken_by_go_alone}");
}

#[test]
fn a_key_of_small_order_that_was_not_read_here_verifies_nothing_either() {
    for vector in vectors().vector {
        let bytes = hex::decode::<32>(vector.key.as_bytes()).unwrap();
        let Ok(key) = VerifyingKey::from_bytes(&bytes) else {
            continue;
        };
        let signature = Signature::parse(vector.signature.as_bytes()).unwrap();
        let is_taken = PublicKey(key).verifies(&hash(&vector.file), &signature);
        assert_eq!(is_taken, vector.name == "good", "{}", vector.name);
    }
}

#[test]
fn all_keys_of_small_order_are_refused() {
    // The eight points of the torsion subgroup.
    let top = "00000000000000000000000000000000000000000000000000000000000000";
    let minus_one = format!("ec{}7f", "ff".repeat(30));
    let x = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03";
    let y = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc";
    for key in [
        format!("01{top}"),
        format!("00{top}"),
        format!("{top}80"),
        minus_one,
        format!("{x}7a"),
        format!("{x}fa"),
        format!("{y}05"),
        format!("{y}85"),
    ] {
        assert_eq!(key.parse::<PublicKey>(), Err(PublicKeyError::SmallOrder));
    }
}

#[test]
fn a_key_whose_coordinate_is_not_reduced_is_refused() {
    let mut same_point = 0;
    for small in 0_u8..19 {
        let mut reduced = [0; 32];
        reduced[0] = small;
        let mut unreduced = [0xff; 32];
        unreduced[0] = 0xed + small;
        unreduced[31] = 0x7f;
        same_point += u32::from(PublicKey::from_bytes(&reduced).is_ok());
        assert!(PublicKey::from_bytes(&unreduced).is_err(), "{small}");
    }
    assert!(same_point > 0, "some of these are keys where reduced");
}

#[test]
fn a_signature_file_is_its_digits_and_at_most_one_newline() {
    let digits = "0aF".repeat(43).get(..128).unwrap().to_owned();
    for text in [digits.clone(), digits.to_uppercase(), format!("{digits}\n")] {
        assert_eq!(
            Signature::parse(text.as_bytes()).unwrap().to_string(),
            digits.to_lowercase()
        );
    }
    for (text, error) in [
        (
            format!("{digits}\n\n"),
            SignatureError::Length { found: 130 },
        ),
        (
            format!("{digits}\r\n"),
            SignatureError::Length { found: 130 },
        ),
        (
            digits.get(1..).unwrap().to_owned(),
            SignatureError::Length { found: 127 },
        ),
        (String::new(), SignatureError::Length { found: 0 }),
        (
            format!(" {}", digits.get(1..).unwrap()),
            SignatureError::Digit { at: 0 },
        ),
        (
            format!("{}\n\n", digits.get(1..).unwrap()),
            SignatureError::Digit { at: 127 },
        ),
    ] {
        assert_eq!(Signature::parse(text.as_bytes()), Err(error), "{text:?}");
    }
    let error = SignatureError::Length { found: 130 }.to_string();
    assert!(error.starts_with("it has at least 130 bytes, "), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_a_signature_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(signature) = Signature::parse(&bytes) {
            let again = Signature::parse(signature.to_string().as_bytes());
            prop_assert_eq!(again, Ok(signature));
        }
        if let Ok(key) = PublicKey::parse(&bytes) {
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }

}

proptest! {
    // Unoptimised, a signature takes a while.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_changed_bit_is_accepted(seed in any::<[u8; 32]>(), file in any::<[u8; 32]>(), at in 0_usize..64 * 8) {
        let key = PrivateKey::from_seed(&seed.into());
        let good = key.sign(&file);
        prop_assert!(key.public_key().verifies(&file, &good));
        let mut bad = good;
        bad.0[at / 8] ^= 1 << (at % 8);
        prop_assert!(!key.public_key().verifies(&file, &bad));
        let mut other = file;
        other[at / 16] ^= 1 << (at % 8);
        prop_assert!(!key.public_key().verifies(&other, &good));
    }
}
