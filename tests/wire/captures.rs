//! The captured adverts of `captures/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The packets of each file, by its name without `.hex`. A line is a packet or begins with `#`.
pub fn captured() -> BTreeMap<String, Vec<Vec<u8>>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/captures");
    let mut captured = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let packets = text.lines().filter(|line| !line.starts_with('#')).map(unhex).collect();
        captured.insert(path.file_stem().unwrap().to_str().unwrap().to_owned(), packets);
    }
    captured
}

fn unhex(line: &str) -> Vec<u8> {
    let digits = line.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).expect(line)).collect()
}
