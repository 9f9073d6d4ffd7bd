//! Unmodified Go plugins of several go-plugin releases, against our host, without a jail.
//!
//! What each test shows is listed by item in `docs/dialects/go-plugin-conformance.md`.

/// Makes a test per go-plugin release out of functions that take the plugin's path.
macro_rules! for_each_release {
    ($($test:ident),+ $(,)?) => {
        for_each_release!(@release go_plugin_1_4, "peers-1.4", ["go"], $($test),+);
        for_each_release!(@release go_plugin_1_4_by_go_1_19, "peers-1.4-go1.19", ["go-1.19"], $($test),+);
        for_each_release!(@release go_plugin_1_5, "peers-1.5", ["go"], $($test),+);
        for_each_release!(@release go_plugin_1_6, "peers-1.6", ["go"], $($test),+);
        for_each_release!(@release go_plugin_1_8, "peers-1.8", ["go"], $($test),+);
    };
    (@release $release:ident, $fixture:literal, $needs:expr, $($test:ident),+) => {
        mod $release {
            $(
                #[tokio::test]
                async fn $test() {
                    if pinfold_tests::require(&$needs) {
                        super::$test(pinfold_tests::go_fixture($fixture)).await;
                    }
                }
            )+
        }
    };
}

mod broker;
mod calls;
mod launch;
mod output;
mod peer;
mod shutdown;

use std::path::PathBuf;

/// The newest release alone, where releases cannot differ; nothing where it cannot be built.
fn newest() -> Option<PathBuf> {
    pinfold_tests::require(&["go"]).then(|| pinfold_tests::go_fixture("peers-1.8"))
}
