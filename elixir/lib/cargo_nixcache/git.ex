defmodule CargoNixcache.Git do
  @moduledoc false
  # What git passes over in a directory, where there is a git and a repository.

  @doc "The paths below `directory` that are ignored: files, and directories as a whole."
  def ignored(directory) do
    # What is tracked all the same, and what isn't.
    Enum.flat_map([["--cached"], ["--others", "--directory"]], fn which ->
      arguments = ["-C", directory, "ls-files", "-z", "--ignored", "--exclude-standard"] ++ which

      case run(arguments) do
        {:ok, paths} ->
          for path <- String.split(paths, <<0>>, trim: true),
              do: Path.join(directory, String.trim_trailing(path, "/"))

        :error ->
          []
      end
    end)
  end

  defp run(arguments) do
    with git when is_binary(git) <- System.find_executable("git"),
         {output, 0} <- System.cmd(git, arguments, stderr_to_stdout: true) do
      {:ok, output}
    else
      _ -> :error
    end
  end
end
