package dev.hyrex;

import com.google.protobuf.ByteString;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;

/** Ids of tasks as the 16 bytes that they have in columns; 16 zero bytes are an empty one. */
final class Ids {
  static final int BYTES = 16;

  private Ids() { }

  static List<String> unpacked(ByteString packed) {
    List<String> ids = new ArrayList<>(packed.size() / BYTES);
    ByteBuffer bytes = packed.asReadOnlyByteBuffer();
    while (bytes.remaining() >= BYTES) {
      UUID id = new UUID(bytes.getLong(), bytes.getLong());
      ids.add(id.getMostSignificantBits() == 0 && id.getLeastSignificantBits() == 0 ? "" : id.toString());
    }
    return ids;
  }

  static ByteString packed(List<String> ids) {
    ByteBuffer bytes = ByteBuffer.allocate(BYTES * ids.size());
    for (String text : ids) {
      UUID id = UUID.fromString(text);
      bytes.putLong(id.getMostSignificantBits()).putLong(id.getLeastSignificantBits());
    }
    return ByteString.copyFrom(bytes.flip());
  }
}
