//! What the shelf keeps, and what goes when there is no room.

use super::*;

fn stage(number: u8, bytes: u64) -> Stage {
    Stage {
        mount: std::fs::File::open("/").unwrap().into(),
        digest: Digest([number; 32]),
        memory_bytes: bytes,
        signatures: Signatures::default(),
        _attached: None,
    }
}

fn plugin(name: &str) -> PluginId {
    name.parse().unwrap()
}

/// Puts one while no plugin is gone.
fn put(shelf: &mut Shelf, name: &str, stage: Stage) -> Result<Rc<Stage>, ShelfError> {
    shelf.put(&plugin(name), stage, &BTreeSet::new())
}

/// The first byte of each digest that is kept.
fn kept(shelf: &Shelf) -> Vec<u8> {
    let digests = shelf.iter().map(|kept| kept.stage.digest());
    digests.map(|digest| digest.0[0]).collect()
}

const LIMIT: u64 = 1 << 31;
const HALF: u64 = LIMIT / 2;

#[test]
fn the_oldest_unused_one_goes_and_the_newest_of_each_plugin_and_those_in_use_stay() {
    let mut shelf = Shelf::new(LIMIT);
    put(&mut shelf, "a", stage(1, HALF / 2)).unwrap();
    put(&mut shelf, "a", stage(2, HALF / 2)).unwrap();
    let used = put(&mut shelf, "b", stage(3, HALF / 2)).unwrap();
    put(&mut shelf, "b", stage(4, HALF / 2)).unwrap();
    // Full. 1 is old and unused; 2 and 4 are the newest; 3 is in use.
    put(&mut shelf, "c", stage(5, HALF / 2)).unwrap();
    assert!(shelf.get(&plugin("a"), &Digest([1; 32])).is_none());
    assert!(put(&mut shelf, "d", stage(6, HALF)).is_err());
    drop(used);
    put(&mut shelf, "d", stage(6, HALF / 2)).unwrap();
    assert_eq!(kept(&shelf), [2, 4, 5, 6]);
}

#[test]
fn the_same_bytes_are_kept_once() {
    let mut shelf = Shelf::new(LIMIT);
    let first = put(&mut shelf, "a", stage(1, 5)).unwrap();
    let second = put(&mut shelf, "b", stage(1, 5)).unwrap();
    assert!(Rc::ptr_eq(&first, &second));
    assert!(shelf.get(&plugin("b"), &Digest([1; 32])).is_some());
    assert!(shelf.get(&plugin("c"), &Digest([1; 32])).is_none());
    assert_eq!(shelf.iter().count(), 1);
}

#[test]
fn a_signature_that_comes_later_counts_for_its_plugin_alone() {
    let signed = |content: &[u8]| {
        Signatures::from(vec![super::super::DetachedSignature {
            file: "probe".into(),
            sha256: [1; 32],
            content: content.to_vec(),
        }])
    };
    let with = |signatures| Stage {
        signatures,
        ..stage(1, 5)
    };
    let mut shelf = Shelf::new(LIMIT);
    let of = |shelf: &Shelf, name| {
        let (_, signatures) = shelf.get(&plugin(name), &Digest([1; 32])).unwrap();
        signatures.of("probe").map(|one| one.content.clone())
    };
    put(&mut shelf, "a", stage(1, 5)).unwrap();
    put(&mut shelf, "b", with(signed(b"b's"))).unwrap();
    assert_eq!(of(&shelf, "a"), None);
    put(&mut shelf, "a", with(signed(b"a's"))).unwrap();
    assert_eq!(of(&shelf, "a"), Some(b"a's".to_vec()));
    assert_eq!(of(&shelf, "b"), Some(b"b's".to_vec()));
    put(&mut shelf, "b", stage(1, 5)).unwrap();
    assert_eq!(of(&shelf, "b"), None);
}

#[test]
fn a_refused_stage_leaves_the_newest_as_it_was() {
    let mut shelf = Shelf::new(LIMIT);
    put(&mut shelf, "a", stage(1, HALF)).unwrap();
    put(&mut shelf, "b", stage(2, HALF)).unwrap();
    assert!(put(&mut shelf, "a", stage(3, HALF + 1)).is_err());
    assert!(shelf.get(&plugin("a"), &Digest([1; 32])).is_some());
    assert!(put(&mut shelf, "c", stage(4, 1)).is_err());
}

#[test]
fn what_is_kept_for_plugins_that_are_gone_goes_after_all_else_and_for_want_of_room_alone() {
    const QUARTER: u64 = LIMIT / 4;
    let mut shelf = Shelf::new(LIMIT);
    put(&mut shelf, "a", stage(1, QUARTER)).unwrap();
    put(&mut shelf, "b", stage(2, QUARTER)).unwrap();
    put(&mut shelf, "c", stage(3, QUARTER)).unwrap();
    put(&mut shelf, "c", stage(4, QUARTER)).unwrap();
    let gone = BTreeSet::from([plugin("a"), plugin("b")]);
    let mut put_while_gone = |name: &str, stage| shelf.put(&plugin(name), stage, &gone).map(drop);
    // Full. 3 is nobody's newest, and goes before what is older.
    put_while_gone("d", stage(5, QUARTER)).unwrap();
    put_while_gone("e", stage(6, QUARTER)).unwrap();
    // 2 alone would not be enough.
    assert!(put_while_gone("f", stage(7, HALF)).is_err());
    assert_eq!(kept(&shelf), [2, 4, 5, 6]);
    let remembered: Vec<PluginId> = shelf.plugins().cloned().collect();
    assert_eq!(remembered, ["b", "c", "d", "e"].map(plugin));
    shelf.put(&plugin("f"), stage(7, QUARTER), &gone).unwrap();
    assert_eq!(kept(&shelf), [4, 5, 6, 7]);
    assert!(shelf.get(&plugin("b"), &Digest([2; 32])).is_none());
    // Nobody is gone any more.
    assert!(put(&mut shelf, "g", stage(8, QUARTER)).is_err());
}

#[test]
fn a_stage_of_a_plugin_that_is_gone_stays_while_anybody_else_needs_it() {
    let mut shelf = Shelf::new(LIMIT);
    put(&mut shelf, "a", stage(1, HALF)).unwrap();
    put(&mut shelf, "b", stage(1, HALF)).unwrap();
    let used = put(&mut shelf, "c", stage(2, HALF)).unwrap();
    let gone = BTreeSet::from([plugin("a"), plugin("c")]);
    let refused = shelf.put(&plugin("d"), stage(3, HALF), &gone);
    let full = ShelfError::Full {
        wanted_bytes: HALF,
        stages: 2,
        bytes: LIMIT,
        limit_bytes: LIMIT,
    };
    assert_eq!(refused.unwrap_err(), full);
    drop(used);
    shelf.put(&plugin("d"), stage(3, HALF), &gone).unwrap();
    assert_eq!(kept(&shelf), [1, 3]);
}

#[test]
fn a_plugin_that_is_gone_is_forgotten_where_there_are_too_many() {
    let mut shelf = Shelf::new(LIMIT);
    for number in 0..PLUGINS_LIMIT {
        put(&mut shelf, &format!("p{number}"), stage(1, 5)).unwrap();
    }
    // Staged later than the others.
    put(&mut shelf, "p7", stage(2, 5)).unwrap();
    let refused = put(&mut shelf, "new", stage(3, 5));
    assert_eq!(refused.unwrap_err(), ShelfError::Plugins);
    let gone = BTreeSet::from([plugin("p7"), plugin("p8")]);
    shelf.put(&plugin("new"), stage(3, 5), &gone).unwrap();
    assert_eq!(shelf.plugins().count(), PLUGINS_LIMIT);
    assert!(shelf.get(&plugin("p8"), &Digest([1; 32])).is_none());
    assert!(shelf.get(&plugin("p7"), &Digest([2; 32])).is_some());
    assert!(shelf.get(&plugin("p9"), &Digest([1; 32])).is_some());
}
