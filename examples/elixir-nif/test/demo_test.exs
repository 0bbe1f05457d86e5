defmodule DemoTest do
  use ExUnit.Case, async: true

  test "words are counted" do
    assert Demo.words("the cat and the hat and the bat") == [{"the", 3}, {"and", 2}, {"bat", 1}, {"cat", 1}, {"hat", 1}]
  end

  test "numbers are added" do
    assert Demo.add(40, 2) == 42
  end
end
