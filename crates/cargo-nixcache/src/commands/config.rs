//! `config`: the settings, and where each came from.

use std::process::ExitCode;

use super::print;
use crate::settings::{Author, Settings};

/// `cargo nixcache config`
pub(crate) fn run(settings: &Settings, json: bool) -> ExitCode {
    if json {
        let shown = settings.shown.iter().map(|shown| {
            (shown.key.to_owned(), serde_json::json!({ "value": shown.value, "from": shown.origin.to_string() }))
        });
        let shown: serde_json::Map<String, serde_json::Value> = shown.collect();
        let files = settings.files.iter().map(|file| {
            let by_user = file.author == Author::User;
            serde_json::json!({ "path": file.path, "table": file.table, "present": file.present, "user": by_user })
        });
        let files: Vec<_> = files.collect();
        print(&serde_json::json!({ "settings": shown, "files": files }).to_string());
        return ExitCode::SUCCESS;
    }
    let width = |of: &dyn Fn(usize) -> usize| (0..settings.shown.len()).map(of).max().unwrap_or_default();
    let value = |index: usize| settings.shown[index].value.as_deref().unwrap_or("none");
    let keys = width(&|index| settings.shown[index].key.len());
    let values = width(&|index| value(index).len());
    for (index, shown) in settings.shown.iter().enumerate() {
        print(&format!("{:keys$}  {:values$}  {}", shown.key, value(index), shown.origin));
    }
    print("");
    print("files, those that count more first:");
    for file in &settings.files {
        print(&format!("  {}{}", file.name(), if file.present { "" } else { " (not there)" }));
    }
    ExitCode::SUCCESS
}
