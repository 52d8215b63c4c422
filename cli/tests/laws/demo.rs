//! The demo.

use crate::room::Room;

#[test]
fn the_demo_verifies_every_preset_and_names_its_picture() {
    let room = Room::new();
    let report = room.json("demo");
    assert_eq!(report["ok"], true, "{report}");
    let presets = report["presets"].as_array().unwrap();
    assert_eq!(presets.len(), fedpress::PRESETS.len());
    let picture = report["picture"].as_str().unwrap();
    assert_eq!(picture, "fedpress-demo.svg");
    let svg = String::from_utf8(room.read(picture)).unwrap();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    for preset in fedpress::PRESETS {
        assert!(svg.contains(preset.name), "{}", preset.name);
    }
}
