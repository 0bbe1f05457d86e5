defmodule CargoNixcache.Known do
  @moduledoc false
  # SHA-256 digests, remembered.
  #
  # SHA-256 is OpenSSL's here, and a virtual machine takes 30 ms to load that: more than all else that is done where
  # nothing is to be fetched. So a digest is remembered under the MD5 of the same bytes, which the machine makes itself.
  # Nothing is believed for its time or its size: the bytes are read each time. MD5 is no proof against somebody who
  # makes two files with the same one; but what comes over a network is compared by SHA-256, and who can write here
  # needs no such files.

  @doc "What was remembered in a file. What can't be read was not remembered."
  def load(path) do
    known = :ets.new(:known, [:set, :private])

    with {:ok, bytes} <- File.read(path), {:ok, digests} <- decode(bytes) do
      for {md5, sha256} <- digests, is_binary(md5), is_binary(sha256), do: :ets.insert(known, {md5, sha256, :old})
    end

    known
  end

  defp decode(bytes) do
    case :erlang.binary_to_term(bytes, [:safe]) do
      digests when is_map(digests) -> {:ok, digests}
      _ -> :error
    end
  rescue
    ArgumentError -> :error
  end

  @doc "Remembers what was asked for, and nothing else. Where nothing is new, nothing is written."
  def save(known, path) do
    entries = :ets.tab2list(known)

    if Enum.any?(entries, &(elem(&1, 2) == :new)) do
      digests = for {md5, sha256, state} <- entries, state != :old, into: %{}, do: {md5, sha256}
      beside = "#{path}.#{System.pid()}"

      # Without it the next build takes longer, and that is all.
      with :ok <- File.mkdir_p(Path.dirname(path)),
           :ok <- File.write(beside, :erlang.term_to_binary(digests)),
           {:error, _} <- File.rename(beside, path),
           do: File.rm(beside)
    end

    :ok
  end

  @doc """
  The SHA-256 of bytes, in hexadecimal digits; `nil` if they can't be read.

  `feed` gives all bytes to `update/2` or `whole/2`, beginning with the state that it is given, and returns the last
  state or `nil`. `known` is `nil` where nothing is remembered.
  """
  def sha256(nil, feed), do: [:sha256] |> digests(feed) |> List.last()

  def sha256(known, feed) do
    with [md5] <- digests([:md5], feed) do
      case :ets.lookup(known, md5) do
        [{_, sha256, state}] ->
          if state == :old, do: :ets.insert(known, {md5, sha256, :used})
          sha256

        [] ->
          # Both from one reading: in between, the bytes could have changed.
          with [md5, sha256] <- digests([:md5, :sha256], feed) do
            :ets.insert(known, {md5, sha256, :new})
            sha256
          else
            [] -> nil
          end
      end
    else
      [] -> nil
    end
  end

  defp digests(algorithms, feed) do
    state = feed.(for algorithm <- algorithms, do: {algorithm, init(algorithm)})
    for {algorithm, context} <- state || [], do: final(algorithm, context)
  end

  @doc "Adds bytes."
  def update(state, bytes), do: for({algorithm, context} <- state, do: {algorithm, update(algorithm, context, bytes)})

  @doc "Adds the digest of bytes."
  def whole(state, bytes),
    do: for({algorithm, context} <- state, do: {algorithm, update(algorithm, context, digest(algorithm, bytes))})

  defp init(:md5), do: :erlang.md5_init()
  defp init(:sha256), do: :crypto.hash_init(:sha256)

  defp update(:md5, context, bytes), do: :erlang.md5_update(context, bytes)
  defp update(:sha256, context, bytes), do: :crypto.hash_update(context, bytes)

  defp digest(:md5, bytes), do: :erlang.md5(bytes)
  defp digest(:sha256, bytes), do: :crypto.hash(:sha256, bytes)

  defp final(:md5, context), do: :erlang.md5_final(context)
  defp final(:sha256, context), do: context |> :crypto.hash_final() |> hex()

  @doc "Bytes in hexadecimal digits."
  def hex(bytes) do
    for <<digit::4 <- bytes>>, into: "", do: <<if(digit < 10, do: ?0 + digit, else: ?a + digit - 10)>>
  end
end
