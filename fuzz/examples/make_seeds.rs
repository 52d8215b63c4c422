//! Writes the seed corpora to `fuzz/corpus/TARGET/`. `cargo run -p fedpress-fuzz --example make_seeds`

fn main() -> std::io::Result<()> {
    for (target, _) in fedpress_fuzz::TARGETS {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        for (name, content) in fedpress_fuzz::seeds::of(target) {
            std::fs::write(folder.join(name), content)?;
        }
    }
    Ok(())
}
