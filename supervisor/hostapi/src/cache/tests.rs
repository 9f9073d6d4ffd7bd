use super::*;

fn plugin(name: &str) -> PluginId {
    PluginId::parse(name).unwrap()
}

/// A plugin that has made no call yet.
struct Fresh(PluginId, CachePlace);

fn fresh(name: &str) -> Fresh {
    Fresh(plugin(name), CachePlace::default())
}

impl Fresh {
    fn owner(&self) -> Owner<'_> {
        Owner {
            plugin: &self.0,
            place: &self.1,
        }
    }
}

async fn get(cache: &Cache, name: &str, key: &str) -> Option<Bytes> {
    cache.get(fresh(name).owner(), key).await
}

async fn set(cache: &Cache, name: &str, key: &str, value: &[u8]) {
    cache
        .set(fresh(name).owner(), key.into(), value, None)
        .await
        .unwrap();
}

#[tokio::test]
async fn plugins_neither_see_nor_change_each_others_entries() {
    let cache = Cache::new();
    set(&cache, "a", "k", b"a's").await;
    assert_eq!(get(&cache, "b", "k").await, None);
    set(&cache, "b", "k", b"b's").await;
    assert_eq!(get(&cache, "a", "k").await.unwrap(), "a's");
    cache.delete(fresh("b").owner(), "k").await;
    assert_eq!(get(&cache, "a", "k").await.unwrap(), "a's");
    assert_eq!(get(&cache, "b", "k").await, None);
}

#[tokio::test]
async fn the_place_of_a_plugin_s_entries_is_found_once() {
    let cache = Cache::new();
    let (a, other_instance, b) = (fresh("a"), fresh("a"), fresh("b"));
    assert_eq!(cache.get(a.owner(), "k").await, None);
    assert!(cache.spaces.lock().unwrap().is_empty(), "asking makes none");
    set(&cache, "a", "k", b"a's").await;
    for asking in [&a, &other_instance] {
        assert_eq!(cache.get(asking.owner(), "k").await.unwrap(), "a's");
        assert!(asking.1.lock().upgrade().is_some());
    }
    assert_eq!(cache.get(b.owner(), "k").await, None);
    // Without the lock of all.
    let known = {
        let _held = cache.spaces.lock().unwrap();
        cache.space(a.owner()).is_some()
    };
    assert!(known);
    cache.forget(&a.0);
    assert_eq!(cache.get(a.owner(), "k").await, None);
}

#[tokio::test]
async fn a_plugin_that_fills_its_room_evicts_only_its_own() {
    let cache = Cache::new();
    set(&cache, "quiet", "k", b"kept").await;
    let value = vec![0; CACHE_VALUE_LIMIT_BYTES];
    for n in 0..40 {
        set(&cache, "greedy", &n.to_string(), &value).await;
    }
    assert_eq!(get(&cache, "quiet", "k").await.unwrap(), "kept");
    assert_eq!(get(&cache, "greedy", "0").await, None);
    assert_eq!(
        get(&cache, "greedy", "39").await.unwrap().len(),
        value.len()
    );
    let held = cache.total.load(Ordering::Relaxed);
    assert!(held <= CACHE_PLUGIN_LIMIT_BYTES + 1024, "{held}");
}

#[tokio::test]
async fn the_total_is_bounded_and_counted_back_when_a_plugin_goes() {
    let cache = Cache::new();
    let value = vec![0; CACHE_VALUE_LIMIT_BYTES];
    let mut refused = false;
    'fill: for p in 0..20 {
        for n in 0..15 {
            let name = fresh(&format!("p{p}"));
            match cache.set(name.owner(), n.to_string(), &value, None).await {
                Ok(()) => {}
                Err(HostError::CacheFull) => {
                    refused = true;
                    break 'fill;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(refused);
    let held = cache.total.load(Ordering::Relaxed);
    assert!(
        held < CACHE_TOTAL_LIMIT_BYTES + 2 * CACHE_VALUE_LIMIT_BYTES as u64,
        "{held}"
    );
    for p in 0..20 {
        cache.forget(&plugin(&format!("p{p}")));
    }
    assert_eq!(cache.total.load(Ordering::Relaxed), 0);
    set(&cache, "p0", "again", b"x").await;
    assert_eq!(get(&cache, "p0", "0").await, None, "forgotten");
}

#[tokio::test]
async fn an_entry_that_is_replaced_grows_no_further_than_the_total_allows() {
    let cache = Cache::new();
    set(&cache, "a", "k", b"small").await;
    cache
        .total
        .fetch_add(CACHE_TOTAL_LIMIT_BYTES - 2000, Ordering::Relaxed);
    set(&cache, "a", "k", &[1; 1000]).await;
    let a = fresh("a");
    let refused = cache.set(a.owner(), "k".into(), &[2; 5000], None).await;
    assert!(matches!(refused, Err(HostError::CacheFull)), "{refused:?}");
    assert_eq!(get(&cache, "a", "k").await.unwrap(), [1; 1000][..]);
    set(&cache, "a", "k", &[3; 1000]).await;
    set(&cache, "a", "k", b"less").await;
}

#[tokio::test]
async fn replacing_and_deleting_give_room_back() {
    let cache = Cache::new();
    set(&cache, "a", "k", &[0; 1000]).await;
    set(&cache, "a", "k", &[0; 10]).await;
    assert_eq!(
        cache.total.load(Ordering::Relaxed),
        11 + u64::from(ENTRY_OVERHEAD_BYTES)
    );
    cache.delete(fresh("a").owner(), "k").await;
    assert_eq!(cache.total.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn an_entry_lives_as_long_as_it_was_set_for() {
    let cache = Cache::new();
    let ttl = Some(Duration::from_secs(60));
    cache
        .set(fresh("a").owner(), "short".into(), b"x", ttl)
        .await
        .unwrap();
    cache
        .set(fresh("a").owner(), "always".into(), b"x", None)
        .await
        .unwrap();
    cache
        .set(
            fresh("a").owner(),
            "longest".into(),
            b"x",
            Some(Duration::MAX),
        )
        .await
        .unwrap();
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(get(&cache, "a", "short").await.is_some());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(get(&cache, "a", "short").await.is_none());
    assert!(get(&cache, "a", "always").await.is_some());
    assert!(get(&cache, "a", "longest").await.is_some());
}

#[tokio::test]
async fn keys_and_values_over_their_limit_are_refused() {
    let cache = Cache::new();
    let large = vec![0; CACHE_VALUE_LIMIT_BYTES + 1];
    let error = cache
        .set(fresh("a").owner(), "k".into(), &large, None)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cache value is larger than 1048576 bytes"
    );
    let key = "k".repeat(CACHE_KEY_LIMIT_BYTES + 1);
    let error = check_key(&key).unwrap_err();
    assert_eq!(error.to_string(), "cache key is larger than 512 bytes");
}

#[tokio::test]
async fn a_cached_slice_does_not_keep_the_message_it_came_in() {
    let cache = Cache::new();
    let message = Bytes::from(vec![7; 1024]);
    cache
        .set(fresh("a").owner(), "k".into(), &message.slice(..1), None)
        .await
        .unwrap();
    assert!(message.is_unique());
}
