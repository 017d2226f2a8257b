// XXH3-64 against the reference implementation's results (xxHash 0.8 through its Python binding) and Dynamo's vectors.

import Testing

@testable import Base

/// Length and the hashes under the seeds 0, 1337 and 0x9e3779b97f4a7c15 of bytes that `input` makes.
private let vectors: [(length: Int, seed0: UInt64, seed1337: UInt64, seedLarge: UInt64)] = [
  (0, 0x2d06_8005_38d3_94c2, 0xd1f3_e774_4443_0ab9, 0x602b_0e2c_d666_2c8b),
  (1, 0x4c5c_ca45_d0f4_811f, 0xcb28_72d8_fd45_5c72, 0x2f3a_cd38_05f8_1de3),
  (2, 0x29c6_0963_cbfa_4e6e, 0xed2c_c85f_4c7a_fcfe, 0x28a7_b77c_08c0_91eb),
  (3, 0x6e3e_2670_e611_06ac, 0xfc58_1e06_d78e_53fc, 0xbc74_611d_87f6_59e0),
  (4, 0x5c4c_6313_3443_d03f, 0xf919_9e90_99b4_a049, 0x6c37_5317_7c60_7de4),
  (5, 0x49f5_eb31_1128_0b63, 0x82dc_c539_9036_d000, 0xc527_066b_4c49_6b85),
  (7, 0x46a5_c724_d51f_e43f, 0xfad3_1d38_1911_39fc, 0x3e79_41a4_5217_9655),
  (8, 0xf9fd_4dd0_b04d_78f5, 0x37e8_8e9e_5e83_99d6, 0xbc72_d053_1396_303f),
  (9, 0x7c20_df97_12c2_6edf, 0x2957_d5a3_3812_07f0, 0x93c5_aa00_6102_daf5),
  (12, 0x16d2_dff5_4dc2_ee45, 0xfc93_612b_50f9_d8c0, 0xfe7f_fcdd_4d01_fe31),
  (15, 0xb345_a7b2_698b_a575, 0xf100_48fa_6651_1ea3, 0x0829_33f8_51ba_6e46),
  (16, 0x86ab_f6ba_ccea_0858, 0x70d8_d577_4c98_da80, 0x69d0_01b1_6ecf_450a),
  (17, 0xb58b_f5dc_5022_d071, 0x43e7_a7d8_1c88_2f45, 0xb7c9_9d19_be27_eb69),
  (24, 0x08ce_26a7_964b_a200, 0xe25b_0990_3634_908b, 0x4bb8_532c_0f76_4b96),
  (31, 0x4844_2fcd_5518_b086, 0xad65_a374_c19a_300b, 0x4d0c_a634_ab4c_a4f4),
  (32, 0xe371_2ed8_4c04_a66e, 0x60db_1e9c_c106_3ea7, 0xe5fb_38c8_1d49_c6f5),
  (33, 0xa4de_e99b_093e_1f73, 0x1e63_67e7_5173_0376, 0x5a46_a370_c351_46ac),
  (47, 0x7712_adb4_a886_3656, 0xe86b_e146_28cd_f88f, 0xd462_4808_dba3_22f6),
  (48, 0xd8d1_caaa_06ae_1e99, 0x4f21_912c_1d39_499c, 0xb6bb_2844_b1f4_f204),
  (63, 0x30ca_01f6_3dcc_223b, 0xa22b_7f7e_5b9a_1b86, 0x9294_4c1b_6245_dd77),
  (64, 0x1291_d2d4_0423_30dd, 0xc7ed_4d6e_301e_5b9b, 0x543f_a55d_8db0_3991),
  (65, 0x97c6_bf83_217e_5ec9, 0xe87a_46a1_0485_8bcb, 0xf3ef_e405_59a7_6a28),
  (80, 0xc50c_581c_f16b_1ed6, 0x11e2_f47b_cf8b_c94f, 0x3ece_3407_cc66_467e),
  (95, 0x31bc_9169_70f3_868d, 0x36f3_274d_70a0_e1d1, 0xa6a6_f329_4496_7813),
  (96, 0x8129_6929_fc06_3365, 0x15f8_8891_4ce7_2f51, 0x260f_2886_3562_3ee8),
  (97, 0xf145_a45b_658a_b9dd, 0x90d1_1406_11e0_1195, 0x5881_7b2a_6ec0_ed2e),
  (127, 0xed4c_f621_0402_0db5, 0xf512_31ed_d89e_9b87, 0x1255_7eb9_b4c6_d9c6),
  (128, 0x10d1_7f72_c0cc_ba41, 0xe6a7_a5db_20c2_8f6e, 0x49b8_1c6e_0abb_9305),
  (129, 0x1648_bdc3_db49_d1a2, 0x4aac_64bf_15af_9ef3, 0x5e38_31b2_2181_0b00),
  (143, 0xd05c_ed59_8f7f_87b3, 0x6c7e_00bb_200c_e270, 0x83c8_b9b7_2442_a01f),
  (144, 0xb46d_bfc6_d9e3_1aba, 0xe885_a20f_fd03_848e, 0xb726_49ca_087f_f203),
  (160, 0x655c_8dc3_3b4b_4c4a, 0xbc7d_f224_bf96_34b6, 0x3c40_f880_a7d4_1ebf),
  (192, 0xdaf6_4f63_dc7d_5e36, 0x7d74_a957_334a_a024, 0x8a25_c40e_51dd_909b),
  (239, 0xf0d1_5481_9adb_16cd, 0x3ec6_9858_75a8_60c6, 0x23ad_00de_a6ed_6611),
  (240, 0xb6cf_af34_3fab_81e6, 0x234b_2836_bedf_36ee, 0x76a7_3ec2_6433_f82c),
  (241, 0x956c_ae59_2c67_279e, 0xc30a_108a_2d9c_d415, 0x2be2_36ba_3bac_f75c),
  (255, 0x64a6_0730_25eb_7929, 0xd54e_3d15_4fd9_1dae, 0x4075_22ce_8ddf_4b58),
  (256, 0xb15e_5507_33c5_dfac, 0x3931_21a7_f11f_2e41, 0x9299_9d62_f081_5eef),
  (257, 0xa016_292d_b542_5cf4, 0x3999_4479_3774_b4e3, 0xe542_b78d_d6e8_d5c1),
  (320, 0xd78c_9b26_7324_ac22, 0xb597_7d2e_8ecc_09da, 0x8ff3_caa3_4dd2_fae4),
  (511, 0xa406_6d4c_39b9_f350, 0xb828_6cbf_0c70_12c4, 0x8383_cd8d_0e97_dda4),
  (512, 0x3044_95c2_d7cf_0b22, 0x5d98_a782_bda0_01a0, 0x9cdc_b21a_9df9_e22d),
  (513, 0xfe6d_dafd_86b2_4138, 0x5975_091f_5253_e565, 0xeae1_a14e_ceac_f4fd),
  (1023, 0xcc24_9fc6_a523_fb5b, 0xebf7_2d22_a3c6_3ab8, 0x28f9_6ac1_065a_885e),
  (1024, 0xea76_dda0_6d73_5ac5, 0x8c0d_d6a6_9328_f489, 0x882c_04e8_1f05_ab27),
  (1025, 0xbade_b190_7fb9_a31e, 0xb7c7_49a9_6b99_0ae7, 0xdc24_cbcf_2f36_ce0d),
  (1088, 0x5149_4bd7_dbdc_22ac, 0x1b29_e60f_d705_3566, 0x5f47_ae1c_051a_93bb),
  (1089, 0x7428_5f04_7ae1_4b66, 0xd189_dd4f_1bce_121f, 0xb425_aa4d_0999_ef82),
  (2047, 0x56e1_97e8_7de2_c50d, 0x543b_9bb8_d93d_1528, 0xdc64_b998_0522_a2b6),
  (2048, 0xf78c_caa9_2a32_989d, 0x2102_ca79_bde3_2bea, 0x1858_bc07_28e9_cd5f),
  (2049, 0xbfee_2c14_1c79_5d42, 0x80de_2ef0_74fb_a8a9, 0x772d_3dec_f4dc_1012),
  (4096, 0x3460_af10_4d07_39aa, 0x055f_7673_f3a7_5373, 0xb81f_d3db_2bb6_72d1),
  (8191, 0xa9e8_bf09_b5da_6d69, 0xbeb7_966a_0159_ed30, 0x9562_82ba_01e1_93ca),
  (65536, 0xbb20_3614_c1f2_2f27, 0x22e8_e568_8d33_4011, 0xd4f7_8169_2f13_4582),
]

/// Byte i is (131 i + 7 + i / 256) modulo 256.
private func input(_ length: Int) -> [UInt8] {
  (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 131 &+ 7 &+ $0 >> 8) }
}

private func hash(_ bytes: [UInt8], _ seed: UInt64) -> UInt64 {
  bytes.withUnsafeBytes { XXH3.hash($0, seed: seed) }
}

@Suite struct XXH3Tests {
  @Test func everyLengthClassMatchesTheReference() {
    for vector in vectors {
      let bytes = input(vector.length)
      #expect(hash(bytes, 0) == vector.seed0, "length \(vector.length)")
      #expect(hash(bytes, 1337) == vector.seed1337, "length \(vector.length)")
      #expect(hash(bytes, 0x9e37_79b9_7f4a_7c15) == vector.seedLarge, "length \(vector.length)")
    }
  }

  @Test func alignmentDoesNotMatter() {
    for vector in vectors where vector.length > 0 {
      for shift in 1...3 {
        let bytes = [UInt8](repeating: 0xee, count: shift) + input(vector.length)
        bytes.withUnsafeBytes { all in
          let shifted = UnsafeRawBufferPointer(rebasing: all[shift...])
          #expect(XXH3.hash(shifted, seed: 1337) == vector.seed1337)
        }
      }
    }
  }

  @Test func fastEntriesEqualTheGeneralOne() {
    let bytes = input(64)
    bytes.withUnsafeBytes { all in
      guard let base = all.baseAddress else { return }
      #expect(XXH3.hash64(base, seed: 1337) == XXH3.upTo128(base, 64, 1337))
      let pair = (all.loadUnaligned(as: UInt64.self), all.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
      #expect(
        XXH3.hash16(pair.0.littleEndian, pair.1.littleEndian, seed: 1337) == XXH3.upTo16(base, 16, 1337))
    }
  }

  @Test func tokenBlocksMatchDynamo() {
    func tokens(_ range: ClosedRange<UInt32>) -> [UInt8] {
      range.flatMap { token in (0..<4).map { UInt8(truncatingIfNeeded: token >> ($0 * 8)) } }
    }
    #expect(hash(tokens(1...4), 1337) == 14_643_705_804_678_351_452)
    #expect(hash(tokens(1...16), 1337) == 16_863_443_419_780_771_464)
    #expect(hash(tokens(17...32), 1337) == 2_287_610_619_914_608_821)
    #expect(hash(tokens(0...15), 1337) == 15_310_707_395_893_867_146)
    #expect(hash(tokens(16...31), 1337) == 15_292_316_782_987_903_195)
    let lora = hash(Array("my-lora".utf8), 0)
    #expect(hash(tokens(1...4), 1337 &+ lora) == 15_671_544_057_904_749_233)
    let tenant = hash(Array("tenant-a".utf8), 1)
    #expect(hash(tokens(1...4), 1337 &+ tenant) == 5_738_685_477_468_498_325)
    #expect(hash(tokens(1...4), 1337 &+ tenant &+ lora) == 6_157_910_915_076_630_503)
  }

  @Test func chainedHashesMatchDynamo() {
    let first: UInt64 = 16_863_443_419_780_771_464
    let second = XXH3.hash16(first, 2_287_610_619_914_608_821, seed: 1337)
    #expect(second == 12_466_389_667_045_779_788)
    #expect(XXH3.hash16(second, 12_129_935_312_930_971_799, seed: 1337) == 960_926_348_267_535_642)
  }
}
