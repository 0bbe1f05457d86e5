defmodule Demo do
  @moduledoc "Counts words, in Rust."

  @doc "How often each word is in a text, the most frequent first."
  defdelegate words(text), to: Demo.Native

  @doc "The sum of two numbers."
  defdelegate add(one, other), to: Demo.Native
end
