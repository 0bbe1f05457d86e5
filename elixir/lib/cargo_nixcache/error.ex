defmodule CargoNixcache.Error do
  @moduledoc "What went wrong, in a sentence. It never holds a token, a password or a query."
  defexception [:message]
end
