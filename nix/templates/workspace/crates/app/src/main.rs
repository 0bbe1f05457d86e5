fn main() {
    println!("{}", library::greeting("world"));
}
