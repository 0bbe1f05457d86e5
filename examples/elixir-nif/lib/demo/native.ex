defmodule Demo.Native do
  @moduledoc false
  # With rustler as a dependency these lines are `use Rustler, otp_app: :demo, crate: "demo_nif", skip_compilation?: true`.
  @on_load :load

  def load do
    path = Application.app_dir(:demo, "priv/native/demo_nif")
    :erlang.load_nif(String.to_charlist(path), 0)
  end

  def words(_text), do: :erlang.nif_error(:nif_not_loaded)
  def add(_one, _other), do: :erlang.nif_error(:nif_not_loaded)
end
