//! The part that programs share.

/// What to say to somebody.
pub fn greeting(name: &str) -> String {
    format!("Hello, {name}!")
}

#[cfg(test)]
mod tests {
    #[test]
    fn somebody_is_greeted() {
        assert_eq!(super::greeting("you"), "Hello, you!");
    }
}
