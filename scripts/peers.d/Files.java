// SPDX-License-Identifier: GPL-2.0-only
// What Java does to a file and to mappings of it; prints what came of each, for comparison.
// Usage: java Files FILE OTHER-FILE-TO-COPY-TO
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.MappedByteBuffer;
import java.nio.channels.AsynchronousFileChannel;
import java.nio.channels.FileChannel;
import java.nio.channels.FileChannel.MapMode;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.PosixFileAttributes;
import java.util.Arrays;
import java.util.zip.CRC32;

final class Files {
	interface Step {
		Object run() throws Exception;
	}

	private static Path path;
	private static Path other;

	private static void step(String name, Step step) {
		Object result;

		try {
			result = step.run();
		} catch (Exception e) {
			result = e.getClass().getSimpleName() + ": " + e.getMessage();
		}
		System.out.println(name + ": " + result);
	}

	private static FileChannel open() throws IOException {
		return FileChannel.open(path, StandardOpenOption.READ, StandardOpenOption.WRITE);
	}

	private static long sum(ByteBuffer buffer) {
		CRC32 crc = new CRC32();

		crc.update(buffer.duplicate());
		return crc.getValue();
	}

	private static void mappings(FileChannel file) throws IOException {
		MappedByteBuffer shared = file.map(MapMode.READ_WRITE, 0, file.size());
		MappedByteBuffer again = file.map(MapMode.READ_ONLY, 0, file.size());
		MappedByteBuffer copy = file.map(MapMode.PRIVATE, 0, file.size());

		step("map: sum", () -> sum(shared));
		step("map: stores are seen by all", () -> {
			for (int at = 0; at + 8 <= shared.capacity(); at += 1000)
				shared.putLong(at, at * 7919L);
			copy.putLong(8192, 1);
			return sum(shared) + " " + sum(again) + " " + sum(copy);
		});
		step("map: the file has them", () -> {
			ByteBuffer read = ByteBuffer.allocate(8192);

			file.read(read, 0);
			return sum(read.flip());
		});
		step("map: what is written is seen", () -> {
			file.write(ByteBuffer.wrap("written".getBytes()), 5000);
			return again.get(5000) + " " + shared.get(5006);
		});
		step("map: force, load", () -> {
			shared.force();
			shared.force(4096, 4096);
			return shared.load().isLoaded();
		});
		step("map: a view of the middle", () -> file.map(MapMode.READ_ONLY, 5000, 7).get(0));
		step("map: read only is", () -> again.put(0, (byte)1));
		step("map: past the end grows the file", () -> {
			MappedByteBuffer longer = file.map(MapMode.READ_WRITE, 0, 300000);

			longer.put(299999, (byte)42);
			return file.size() + " " + sum(longer);
		});
	}

	private static void channel(FileChannel file) {
		step("size", () -> file.size());
		step("position, read, write", () -> {
			ByteBuffer[] parts = { ByteBuffer.wrap(new byte[1000]), ByteBuffer.wrap("gather".getBytes()) };

			file.position(12345).write(parts);
			return file.position();
		});
		step("truncate", () -> file.truncate(200000).size() + " " + file.position());
		step("write at the end", () -> {
			file.write(ByteBuffer.wrap("end".getBytes()), file.size());
			return file.size();
		});
		step("transfer out and in", () -> {
			try (FileChannel to = FileChannel.open(other, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
				long there = file.transferTo(0, file.size(), to);

				return there + " " + file.transferFrom(to.position(0), 0, 4096) + " " + java.nio.file.Files.mismatch(path, other);
			}
		});
		step("force", () -> {
			file.force(true);
			return "done";
		});
	}

	private static void locks(FileChannel file) throws IOException {
		try (FileLock lock = file.lock(0, 100, false)) {
			step("lock", () -> lock.isValid() + " " + lock.isShared());
			step("lock: the same again", () -> {
				try {
					return file.tryLock(50, 100, false);
				} catch (OverlappingFileLockException e) {
					return "overlaps";
				}
			});
			step("lock: another part", () -> {
				try (FileLock part = file.tryLock(100, 100, true)) {
					return part.isShared();
				}
			});
		}
	}

	private static void attributes() {
		step("attributes", () -> {
			BasicFileAttributes is = java.nio.file.Files.readAttributes(path, BasicFileAttributes.class);

			return is.isRegularFile() + " " + is.isOther() + " " + is.size();
		});
		step("owner and permissions", () -> {
			PosixFileAttributes is = java.nio.file.Files.readAttributes(path, PosixFileAttributes.class);

			return is.owner() + " " + is.group() + " " + is.permissions();
		});
		step("newer when written", () -> {
			var before = java.nio.file.Files.getLastModifiedTime(path);

			Thread.sleep(50);
			java.nio.file.Files.write(path, new byte[] { 1 }, StandardOpenOption.WRITE);
			return java.nio.file.Files.getLastModifiedTime(path).compareTo(before);
		});
		step("may be read, written, run", () -> java.nio.file.Files.isReadable(path) + " " +
			java.nio.file.Files.isWritable(path) + " " + java.nio.file.Files.isExecutable(path));
		step("append", () -> {
			java.nio.file.Files.write(path, "appended".getBytes(), StandardOpenOption.APPEND);
			return java.nio.file.Files.size(path);
		});
		step("all bytes", () -> Arrays.hashCode(java.nio.file.Files.readAllBytes(path)));
	}

	public static void main(String[] args) throws Exception {
		path = Paths.get(args[0]);
		other = Paths.get(args[1]);
		try (FileChannel file = open()) {
			mappings(file);
			channel(file);
			locks(file);
		}
		attributes();
		step("setLength", () -> {
			try (RandomAccessFile file = new RandomAccessFile(args[0], "rwd")) {
				file.setLength(10);
				file.setLength(100000);
				file.seek(99990);
				file.writeUTF("utf");
				return file.length();
			}
		});
		step("asynchronously", () -> {
			try (AsynchronousFileChannel file = AsynchronousFileChannel.open(path, StandardOpenOption.READ,
											StandardOpenOption.WRITE)) {
				int n = file.write(ByteBuffer.wrap("later".getBytes()), 50000).get();

				return n + " " + file.read(ByteBuffer.allocate(100), 49990).get();
			}
		});
		step("truncated when opened", () -> {
			FileChannel.open(path, StandardOpenOption.WRITE, StandardOpenOption.TRUNCATE_EXISTING).close();
			return java.nio.file.Files.size(path);
		});
	}
}
