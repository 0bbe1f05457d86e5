//! Counts the words of its standard input.

fn main() -> std::io::Result<()> {
    let text = std::io::read_to_string(std::io::stdin())?;
    for (word, count) in tally::words(&text) {
        println!("{count:>6} {word}");
    }
    Ok(())
}
