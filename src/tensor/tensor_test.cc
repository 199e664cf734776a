// Tests of src/tensor.
#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>

namespace apr {
namespace {

TEST(DType, TableIsConsistent) {
  std::set<DType> seen;
  for (const DTypeInfo& row : AllDTypes()) {
    EXPECT_TRUE(seen.insert(row.dtype).second) << row.name;
    EXPECT_EQ(&InfoOf(row.dtype), &row);
    EXPECT_EQ(DTypeFromName(row.name), row.dtype);
    if (row.ggml_id < 0) continue;
    EXPECT_EQ(DTypeFromGgml(static_cast<uint32_t>(row.ggml_id)), row.dtype);
  }
  EXPECT_EQ(DTypeFromName("q4_k"), DType::kQ4_K);
  EXPECT_EQ(DTypeFromName("q4_z"), std::nullopt);
  EXPECT_EQ(DTypeFromGgml(4), std::nullopt) << "a removed ggml type";
}

TEST(Shape, CountsAndRefusesOverflow) {
  EXPECT_EQ((Shape{3, 4}).num_elements(), 12);
  EXPECT_EQ(Shape{}.num_elements(), 1);
  EXPECT_EQ((Shape{2, 3, 4}).rows(), 6);
  EXPECT_EQ((Shape{int64_t{1} << 40, int64_t{1} << 40}).NumElementsChecked(), std::nullopt);
  EXPECT_EQ((Shape{-1}).NumElementsChecked(), std::nullopt);
  EXPECT_EQ((Shape{5, 0}).NumElementsChecked(), 0);
}

TEST(StorageBytes, CountsBlocks) {
  EXPECT_EQ(StorageBytes(DType::kQ4_K, {2, 512}), 4u * 144);
  EXPECT_EQ(StorageBytes(DType::kQ4_K, {2, 300}), std::nullopt);
  EXPECT_EQ(StorageBytes(DType::kAprQ4, {7, 33}), 8u * 18);
  EXPECT_EQ(StorageBytes(DType::kF4, {2, 3}), 3u) << "packed over the whole tensor";
  EXPECT_EQ(StorageBytes(DType::kF4, {1, 3}), std::nullopt);
  EXPECT_EQ(StorageBytes(DType::kF6E2M3, {2, 2}), 3u);
  EXPECT_EQ(StorageBytes(DType::kAprQ8, {0, 5}), 0u);
}

TEST(TensorView, RowsAreABorrowedRange) {
  Tensor t(DType::kF32, {3, 2});
  for (size_t i = 0; i < 6; ++i) t.f32()[i] = static_cast<float>(i);
  const TensorView rows = t.view().Rows(1, 2);
  EXPECT_EQ(rows.shape, (Shape{2, 2}));
  EXPECT_EQ(LoadLe<float>(rows.bytes.data()), 2.0f);
}

}  // namespace
}  // namespace apr
