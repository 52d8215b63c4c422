//! Laws of layouts: files come back as they were, nonsense is refused where it stands.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod layouts;

use fedpress::ErrorKind;
use fedpress_fl::{Axis, Group, Layout, ParamLayout, Parameter, Role, Segment};
use layouts::{any_layout, cases, cnn_toml, line, numbered};
use proptest::prelude::*;

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_layout_survives_its_file(layout in any_layout()) {
        let text = layout.to_toml();
        let back = Layout::from_toml(&text).unwrap();
        prop_assert_eq!(&back, &layout);
        prop_assert_eq!(back.to_toml(), text);
    }

    #[test]
    fn no_text_makes_a_panic(text in "(\\[groups\\]\na = [0-9-]{1,20}\n)?[ -~\n]{0,80}") {
        let _ = Layout::from_toml(&text);
    }

    #[test]
    fn no_axis_text_makes_a_panic(axis in "[ab*+0-9 ]{0,16}") {
        if let Ok(layout) = Layout::from_toml(&file(&axis)) {
            prop_assert_eq!(Layout::from_toml(&layout.to_toml()).unwrap(), layout);
        }
    }
}

/// Groups `a` of 2 and `b` of 3; a parameter `w` with this axis.
fn file(axis: &str) -> String {
    format!(
        "[groups]\na = 2\nb = 3\n[[parameters]]\nname = \"ab\"\naxes = [\"a\", \"b\"]\n\
         [[parameters]]\nname = \"w\"\naxes = [\"1\", \"{axis}\"]\n"
    )
}

#[test]
fn a_file_is_read_as_the_documentation_says() {
    let layout = Layout::from_toml(&cnn_toml(512, 10)).unwrap();
    let names: Vec<&str> = layout.groups().iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["conv1", "conv2", "fc1"]);
    assert_eq!(layout.group("fc1"), Some(2));
    assert_eq!(layout.group("fc2"), None);
    assert_eq!(layout.shape(4), [512, 3136]);
    assert_eq!(layout.params()[4].inputs, [1]);
    assert_eq!(layout.n_values(), 1_663_370);
}

#[test]
fn groups_stand_in_the_order_of_the_file() {
    let text = "[groups]\nz = 1\na = 2\nm = 3\n[[parameters]]\nname = \"w\"\naxes = [\"a+m+z\"]\n";
    let layout = Layout::from_toml(text).unwrap();
    let names: Vec<&str> = layout.groups().iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["z", "a", "m"]);
    assert_eq!(layout.to_toml(), text.replace("\n[[", "\n\n[["));
}

#[test]
fn a_canonical_file_has_this_form() {
    let text = "[groups]\na = 2\n\n[[parameters]]\nname = \"q\\\"\\\\\\u000Aé\"\n\
                axes = [\"3*a*4+7\", \"5\"]\ninputs = [0, 1]\nrole = \"statistic\"\n\n\
                [[parameters]]\nname = \"scalar\"\naxes = []\n";
    let layout = Layout::from_toml(text).unwrap();
    assert_eq!(layout.to_toml(), text);
    assert_eq!(layout.params()[0].name, "q\"\\\né");
    assert_eq!(layout.params()[0].role, Role::Statistic);
    assert_eq!(layout.shape(1), [0usize; 0]);
}

#[test]
fn axis_text_has_one_canonical_form() {
    for (text, canonical, length) in [
        ("a", "a", 2),
        (" 1 * a * 1 ", "a", 2),
        ("49*b", "49*b", 147),
        ("b*49", "b*49", 147),
        ("3*a*64", "3*a*64", 384),
        ("a+b", "a+b", 5),
        ("a+a", "a+a", 4),
        ("2+3+b+4+1", "5+b+5", 13),
        ("007", "7", 7),
    ] {
        let layout = Layout::from_toml(&file(text)).unwrap();
        assert_eq!(layout.shape(1)[1], length, "{text}");
        assert!(layout.to_toml().contains(&format!("[\"1\", \"{canonical}\"]")), "{text}");
    }
}

#[test]
fn a_malformed_axis_is_refused_where_it_stands() {
    for (axis, why) in [
        ("", "expected a group or a number"),
        ("a+", "expected a group or a number"),
        ("+a", "expected a group or a number"),
        ("a**2", "expected a group or a number"),
        ("*a", "expected a group or a number"),
        ("c", "no group \"c\""),
        ("a b", "no group \"a b\""),
        ("-1", "no group \"-1\""),
        ("1.5", "no group \"1.5\""),
        ("2*3", "at most one number on either side"),
        ("a*b", "at most one number on either side"),
        ("2*3*a", "at most one number on either side"),
        ("a*2*3", "at most one number on either side"),
        ("1*2*a*3", "at most one number on either side"),
        ("0", "sizes above 0"),
        ("0*a", "sizes above 0"),
        ("99999999999999999999", "too large"),
        ("9999999999999999999*a*9999999999999999999", "longer than can be counted"),
        ("18446744073709551615+a", "longer than can be counted"),
    ] {
        let error = Layout::from_toml(&file(axis)).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.parameter(), Some("w"), "{axis}: {error}");
        assert!(error.to_string().contains("axis 1"), "{axis}: {error}");
        assert!(error.to_string().contains(why), "{axis}: {error}");
    }
}

#[test]
fn a_malformed_file_is_refused_where_it_stands() {
    let w = "[[parameters]]\nname = \"w\"\naxes = [\"a\"]\n";
    let a = format!("[groups]\na = 2\n{w}");
    for (text, why) in [
        (String::new(), "at least one parameter"),
        ("[groups]\na = 2\n".to_owned(), "at least one parameter"),
        ("[groups\n".to_owned(), "line 1"),
        ("[groups]\na = \"2\"\n".to_owned(), "line 2"),
        ("[groups]\na = -2\n".to_owned(), "line 2"),
        ("[groups]\na = 2.5\n".to_owned(), "line 2"),
        ("[groups]\na = 2\na = 3\n".to_owned(), "line 3"),
        ("[group]\na = 2\n".to_owned(), "line 1"),
        (format!("{a}axis = []\n"), "axis"),
        (format!("{a}role = \"buffer\"\n"), "buffer"),
        (format!("{a}inputs = [-1]\n"), "line 6"),
        ("[groups]\na = 2\n[[parameters]]\nname = \"w\"\n".to_owned(), "axes"),
        ("[groups]\na = 2\n[[parameters]]\naxes = [\"a\"]\n".to_owned(), "name"),
        (format!("[groups]\na = 0\n{w}"), "group \"a\": expected 1 to 4294967295 units, found 0"),
        (format!("[groups]\na = 4294967296\n{w}"), "group \"a\": expected 1 to 4294967295 units"),
        (format!("[groups]\na = 2\n\"2b\" = 2\n{w}"), "group \"2b\": expected a name"),
        (format!("[groups]\na = 2\n\"\" = 2\n{w}"), "group \"\": expected a name"),
        (format!("[groups]\na = 2\n\"a-b\" = 2\n{w}"), "group \"a-b\": expected a name"),
        (format!("[groups]\na = 2\nb = 2\n{w}"), "group \"b\": no axis uses it"),
        (format!("{a}{w}"), "parameter \"w\": the name is taken"),
        (
            format!("{a}[[parameters]]\nname = \"\"\naxes = []\n"),
            "parameter \"\": the name is empty",
        ),
        (format!("{a}inputs = [1]\n"), "parameter \"w\": inputs: expected"),
        (format!("{a}inputs = [0, 0]\n"), "parameter \"w\": inputs: expected"),
    ] {
        let error = Layout::from_toml(&text).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(why), "{text}\n{error}");
    }
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    let param = |name: &str, axes: Vec<Axis>| ParamLayout {
        name: name.to_owned(),
        role: Role::Weight,
        axes,
        inputs: vec![],
    };
    let group = |name: &str| Group { name: name.to_owned(), units: 2 };
    let huge = Axis::whole(usize::MAX / 2);
    // Of what an aggregator could count in memory.
    let half = Axis::whole(isize::MAX as usize / 64);
    for (groups, params, why) in [
        (vec![], vec![param("w", vec![Axis::units(0)])], "axis 0: no group 0, there are 0"),
        (vec![], vec![param("w", vec![Axis(vec![])])], "axis 0: expected at least one segment"),
        (vec![], vec![param("w", vec![Axis::whole(0)])], "axis 0: expected sizes above 0"),
        (
            vec![group("a")],
            vec![param("w", vec![Axis(vec![Segment { outer: 1, group: Some(0), inner: 0 }])])],
            "axis 0: expected sizes above 0",
        ),
        (vec![], vec![param("w", vec![huge.clone(), huge.clone()])], "can be counted"),
        (
            vec![],
            ["u", "v", "w"].map(|name| param(name, vec![half.clone()])).to_vec(),
            "parameter \"w\": more than 288230376151711743 values in all",
        ),
        (
            vec![group("a"), group("a")],
            vec![param("w", vec![Axis::units(0), Axis::units(1)])],
            "group \"a\": the name is taken",
        ),
        (
            vec![group(&"a".repeat(256))],
            vec![param("w", vec![Axis::units(0)])],
            "expected a name of at most 255",
        ),
    ] {
        let error = Layout::new(groups, params).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn parameters_are_checked_against_the_layout() {
    let layout = Layout::from_toml(&file("a+b")).unwrap();
    let good = numbered(&layout);
    layout.check(&good).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<Parameter>)| {
        let mut params = good.clone();
        change(&mut params);
        layout.check(&params).unwrap_err().to_string()
    };
    for (error, expected) in [
        (changed(&|p| p.truncate(1)), "expected 2 parameters, found 1"),
        (
            changed(&|p| p.swap(0, 1)),
            "parameter \"ab\": at position 0 expected this name, found \"w\"",
        ),
        (
            changed(&|p| p[1].shape = vec![5, 1]),
            "parameter \"w\": expected shape [1, 5], found [5, 1]",
        ),
        (changed(&|p| p[1].shape = vec![5]), "parameter \"w\": expected shape [1, 5], found [5]"),
        (changed(&|p| p[1].values.truncate(4)), "parameter \"w\": expected 5 values, found 4"),
    ] {
        assert_eq!(error, expected);
    }
}

#[test]
fn a_layout_without_groups_is_one_without_choices() {
    let layout = Layout::from_toml("[[parameters]]\nname = \"w\"\naxes = [\"2\"]\n").unwrap();
    assert_eq!(layout.to_toml(), "[[parameters]]\nname = \"w\"\naxes = [\"2\"]\n");
    assert_eq!(line(3).to_toml().lines().next(), Some("[groups]"));
}
