//! `inspect settings`: every setting of the monitor, its value, and where that comes from.

use pgaf_protocol::SettingView;

use super::{Context, block_on, print_line};
use crate::error::Failure;
use crate::monitor_client::MonitorClient;
use crate::options::parse::Parsed;
use crate::render::out;
use crate::render::table::{Align, Column, table};
use crate::target::Target;

const SETTINGS: &str = "SELECT pgautofailover.settings()";

/// Prints the settings in force.
pub(crate) fn run(context: &Context<'_>, parsed: &Parsed) -> Result<(), Failure> {
    let target = Target::resolve(parsed)?;
    let text = block_on(async {
        let client = MonitorClient::connect(&target).await?;
        Ok(client.value(SETTINGS, &[]).await?.unwrap_or_default())
    })?;
    if context.json {
        print_line(&text);
        return Ok(());
    }
    let settings: Vec<SettingView> = serde_json::from_str(&text).map_err(|error| {
        Failure::monitor("the monitor's settings cannot be read")
            .because(&error)
            .hint("`--json` prints them as they are")
    })?;
    out::stdout(&layout(&settings));
    Ok(())
}

fn layout(settings: &[SettingView]) -> String {
    let rows: Vec<Vec<String>> = settings
        .iter()
        .map(|it| {
            vec![
                it.name.clone(),
                it.value.to_string(),
                it.unit.clone(),
                it.default.to_string(),
                format!("{}..{}", it.min, it.max),
                it.source.clone(),
                it.why.clone(),
            ]
        })
        .collect();
    let last = Column {
        title: "Why",
        width: 3,
        grows: true,
        align: Align::Left,
    };
    let columns = [
        Column::growing("Setting", 7),
        Column::growing("Value", 5),
        Column::growing("Unit", 4),
        Column::growing("Default", 7),
        Column::growing("Bounds", 6),
        Column::growing("Source", 6),
        last,
    ];
    table(&columns, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgaf_protocol::{Setting, Settings};

    #[test]
    fn every_setting_has_a_line_with_its_unit_default_bounds_and_source() {
        let settings = Settings::default();
        let rows: Vec<SettingView> = Setting::ALL
            .iter()
            .map(|row| SettingView::of(row, &settings, "default"))
            .collect();
        let text = layout(&rows);
        assert_eq!(text.trim_end().lines().count(), rows.len() + 2, "{text}");
        let lease = text.lines().find(|l| l.contains(" lease ")).unwrap();
        for word in ["5000", "ms", "1000..600000", "default", "fences itself"] {
            assert!(lease.contains(word), "{lease}");
        }
    }
}
