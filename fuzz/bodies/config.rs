//! Any text is a configuration or is refused with problems that can be shown.

use vipd::config::Config;

/// Must neither panic nor take long.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse("vipd.toml", text) {
        Ok(config) => {
            assert!(!config.explain().is_empty());
            assert!(!config.explain_as_json().is_empty());
            for advice in &config.advice {
                assert!(!advice.render(false).is_empty());
            }
        }
        Err(problems) => {
            let lines = text.lines().count().max(1);
            let places = problems.iter().filter_map(|problem| problem.place.as_ref());
            assert!(places.into_iter().all(|place| (1..=lines).contains(&place.line)));
            assert!(!problems.render(true).is_empty());
        }
    }
}
